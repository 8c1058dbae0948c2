"""Write a tiny language model that a real llama.cpp loads and streams words from.

Nothing is trained or downloaded. The embedding is one-hot per word and the output matrix holds the
log-probabilities of a bigram counted in `TEXT`, so the model *is* that bigram: it streams readable
text, with CJK and emoji in it. Small random weights in attention and feed-forward let the prompt
matter. The file is GGUF, the architecture `llama`, the tokenizer SentencePiece with byte fallback.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import gguf
import numpy as np
import numpy.typing as npt

TEXT = """
The proxy reads one stream from the engine and sends it to many readers. A reader may come late and
still see every token in order. The engine does not wait for a slow reader. When the last reader
goes away the proxy tells the engine to stop. A small model can stream a long story about a river
and a bridge. The river runs under the bridge and the bridge stands over the river. In the morning
the fisher walks to the river and waits for the boat. The boat brings bread and letters and news
from the town. In the evening the town lights a lamp and the lamp shows the way to the bridge.
Nobody reads the letters twice but everybody reads the news. The story goes on until the model finds
the end. Déjà vu is a naïve café word. 東京 は 川 の 町 です 。 The 🌊 river and the 🌉 bridge
and the 🚢 boat are small pictures. One token after another the story grows and the reader keeps
every token in order.
"""

# ChatML, and tools as Hermes writes them: llama.cpp knows both and streams real tool_calls deltas.
CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>\n"
    "{% for t in tools %}{{ t | tojson }}\n{% endfor %}</tools>\n"
    'For each call return <tool_call>\n{"name": <name>, "arguments": <args>}\n</tool_call>'
    "<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] %}{{ m['content'] }}{% endif %}"
    "{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}"
    "<tool_call>\n{\"name\": \"{{ c['function']['name'] }}\", "
    "\"arguments\": {{ c['function']['arguments'] | tojson }}}\n</tool_call>"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_WORD_START = "\u2581"  # SentencePiece's mark for a space
_SPECIALS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_UNK, _BOS, _EOS, _END_OF_TURN = 0, 1, 2, 4
_TOOL_MARKS = ("<tool_call>\n", "</tool_call>")
_HEADS = 4
_RARE = -30.0  # the log-probability of what never follows
_LOGIT_SHIFT = 6.0  # moves common log-probabilities around zero, where half precision is finest
_UNIGRAM_SHARE = 0.03
_PROMPT_INFLUENCE = 0.15

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens by id; `words` are those that the text is made of, in order of their dimension."""

    words: list[str]
    tokens: list[str]
    scores: list[float]
    types: list[gguf.TokenType]

    @classmethod
    def of(cls, text_words: list[str]) -> Self:
        """The specials, all bytes, and every word with its characters and prefixes."""
        words = sorted(set(text_words))
        byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
        # The tokenizer only joins two pieces into one that it knows, so a word needs its prefixes.
        prefixes = {word[:end] for word in words for end in range(1, len(word) + 1)}
        pieces = sorted(prefixes | {_WORD_START} | {char for word in words for char in word})
        kind = gguf.TokenType
        types = [kind.UNKNOWN] + [kind.CONTROL] * (len(_SPECIALS) - 1)
        types += [kind.USER_DEFINED] * len(_TOOL_MARKS)
        types += [kind.BYTE] * len(byte_tokens) + [kind.NORMAL] * len(pieces)
        tokens = [*_SPECIALS, *_TOOL_MARKS, *byte_tokens, *pieces]
        # The pair with the best score is joined first: the longer a piece, the better.
        scores = [0.0] * (len(tokens) - len(pieces)) + [len(piece) - 100.0 for piece in pieces]
        return cls(words, tokens, scores, types)

    @property
    def width(self) -> int:
        """The embedding's size: a dimension per word, rounded up to 64."""
        return -(-(len(self.words) + 1) // 64) * 64


def write_model(
    path: Path, *, layers: int = 1, ff: int = 64, ctx: int = 4096, eos: float = 0.02, seed: int = 7
) -> None:
    """Write the model to `path`: the same bytes for the same arguments.

    `layers` and `ff` (the width of the feed-forward) are arithmetic that slows it down and barely
    changes the text; `ctx` is the context in tokens that it claims to be made for; `eos` is the
    chance that the text ends after a full stop (0: practically never).
    """
    text_words = [
        word if word == "." else _WORD_START + word for word in re.findall(r"[^\s.]+|\.", TEXT)
    ]
    vocabulary = _Vocabulary.of(text_words)
    writer = gguf.GGUFWriter(path, "llama")
    _add_tokenizer(writer, vocabulary)
    _add_shape(writer, vocabulary, layers=layers, ff=ff, ctx=ctx)
    writer.add_tensor("token_embd.weight", _embedding(vocabulary).astype(np.float16))
    writer.add_tensor("output.weight", _output(vocabulary, text_words, eos).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(vocabulary.width, np.float32))
    rng = np.random.default_rng(seed)
    for layer in range(layers):
        _add_layer(writer, layer, vocabulary.width, ff, _PROMPT_INFLUENCE / layers, rng)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _embedding(vocabulary: _Vocabulary) -> Matrix:
    """One-hot rows. A token that is no word stands for one of the words, picked by its id."""
    dimension = {word: index for index, word in enumerate(vocabulary.words)}
    table = np.zeros((len(vocabulary.tokens), vocabulary.width), np.float32)
    for index, token in enumerate(vocabulary.tokens):
        table[index, dimension.get(token, index * 7919 % len(dimension))] = 1.0
    return table


def _output(vocabulary: _Vocabulary, text_words: list[str], eos: float) -> Matrix:
    """The log-probability of each token (row) after each word (column)."""
    token_ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, follower in pairwise([*text_words, text_words[0]]):
        followers[word][follower] += 1
    frequency = Counter(text_words)
    table = np.full((len(vocabulary.tokens), vocabulary.width), _RARE, np.float32)
    for column, word in enumerate(vocabulary.words):
        for follower in vocabulary.words:
            bigram = followers[word][follower] / followers[word].total()
            unigram = frequency[follower] / len(text_words)
            chance = (1 - _UNIGRAM_SHARE) * bigram + _UNIGRAM_SHARE * unigram
            table[token_ids[follower], column] = np.log(chance)
        if word == ".":
            table[_EOS, column] = np.log(max(eos, 1e-9))
    # The norm before this matrix turns a one-hot row into sqrt(width) at its place.
    return (table + _LOGIT_SHIFT) / np.sqrt(vocabulary.width, dtype=np.float32)


def _add_layer(
    writer: gguf.GGUFWriter,
    layer: int,
    width: int,
    ff: int,
    influence: float,
    rng: np.random.Generator,
) -> None:
    def random(rows: int, columns: int, scale: float) -> npt.NDArray[np.float16]:
        return (rng.standard_normal((rows, columns)) * scale).astype(np.float16)

    into, back = 1.0 / np.sqrt(width), influence / width
    ones = np.ones(width, np.float32)
    tensors = {
        "attn_norm": ones,
        "ffn_norm": ones,
        "attn_q": random(width, width, into),
        "attn_k": random(width, width, into),
        "attn_v": random(width, width, into),
        "attn_output": random(width, width, back),
        "ffn_gate": random(ff, width, into),
        "ffn_up": random(ff, width, into),
        "ffn_down": random(width, ff, back),
    }
    for name, tensor in tensors.items():
        writer.add_tensor(f"blk.{layer}.{name}.weight", tensor)


def _add_shape(
    writer: gguf.GGUFWriter, vocabulary: _Vocabulary, *, layers: int, ff: int, ctx: int
) -> None:
    writer.add_name("trioproxy-tiny-bigram")
    writer.add_description("hand-made bigram model for tests; not trained")
    writer.add_license("CC0-1.0")
    writer.add_context_length(ctx)
    writer.add_embedding_length(vocabulary.width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(vocabulary.width // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: _Vocabulary) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_unk_token_id(_UNK)
    writer.add_bos_token_id(_BOS)
    writer.add_eos_token_id(_EOS)
    writer.add_eot_token_id(_END_OF_TURN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
