"""The words that the simulated engine speaks: a function of the prompt and the seed alone.

A sentence is drawn, then a word for each of its slots, and so on for ever. The drawing is done with
`random.Random.random`, whose sequence for a given seed the standard library promises not to change
(https://docs.python.org/3/library/random.html#notes-on-reproducibility), so a text is the same on
every machine and with every version of Python.
"""

import random
from collections.abc import Iterator
from itertools import islice

_WORDS = {
    "ADJECTIVE": ("quiet", "patient", "bright", "narrow", "early", "steady", "distant", "silver"),
    "NOUN": ("river", "signal", "reader", "lantern", "harbor", "engine", "letter", "traveler"),
    "VERB": ("carries", "follows", "answers", "crosses", "remembers", "measures", "repeats"),
    "ADVERB": ("slowly", "again", "tonight", "together", "upstream", "forever"),
    "SIGN": ("🌊", "🚀", "✨", "🐙", "👩‍🚀"),
}

# A name in capitals is a slot for a word. Anything else is a token as it stands.
_ENGLISH = (
    (" The", "ADJECTIVE", "NOUN", "VERB", " the", "NOUN", "."),
    (" A", "NOUN", "VERB", "ADVERB", ",", " and", " the", "NOUN", "VERB", " the", "NOUN", "."),
    (
        " Every",
        "NOUN",
        "VERB",
        " one",
        "ADJECTIVE",
        "NOUN",
        ";",
        " no",
        "NOUN",
        "VERB",
        " two",
        ".",
    ),
    (" Where", " the", "NOUN", "VERB", ",", " a", "ADJECTIVE", "NOUN", "VERB", "SIGN", "."),
)
_CJK = (
    (" 流れる", "水", "は", "腐らない", "。"),
    (" 千里", "之行", "，", "始於", "足下", "。"),
)


def generate_text(prompt: str, tokens: int, seed: int = 0) -> list[str]:
    """Return the first tokens of the text that the engine gives for this prompt and seed.

    The text never ends: a larger `tokens` only continues it. Joined, the tokens read as English
    with some emoji and CJK; a word brings its leading space with it. Choice `i` of an answer with
    several is the text of `seed + i`.
    """
    return list(islice(iterate_text(prompt, seed), tokens))


def iterate_text(prompt: str, seed: int = 0) -> Iterator[str]:
    """Yield the tokens of `generate_text` one by one, for ever."""
    draw = random.Random(f"{seed}:{prompt}").random
    sentences: tuple[tuple[str, ...], ...] = _ENGLISH  # a text begins in English
    while True:
        for token in sentences[int(draw() * len(sentences))]:
            words = _WORDS.get(token)
            yield token if words is None else " " + words[int(draw() * len(words))]
        sentences = _ENGLISH + _CJK
