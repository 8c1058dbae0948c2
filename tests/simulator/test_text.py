"""The text of the simulated engine is a function of the prompt and the seed."""

import pytest

from trioproxy.simulator import generate_text


def test_the_text_of_a_prompt_is_the_same_on_every_machine() -> None:
    assert generate_text("Hello", 12) == [
        " Where",
        " the",
        " reader",
        " repeats",
        ",",
        " a",
        " silver",
        " signal",
        " answers",
        " 🚀",
        ".",
        " 流れる",
    ]


def test_more_tokens_continue_the_same_text() -> None:
    longer = generate_text("a prompt", 500)

    assert longer[:20] == generate_text("a prompt", 20)


@pytest.mark.parametrize("tokens", [0, 1, 5_000])
def test_there_are_exactly_as_many_tokens_as_asked_for(tokens: int) -> None:
    assert tokens == len(generate_text("Hello", tokens))


def test_another_prompt_and_another_seed_give_another_text() -> None:
    texts = {
        tuple(generate_text(prompt, 50, seed)) for prompt in ("a", "b", "") for seed in (0, 1, -1)
    }

    assert len(texts) == 9


def test_the_tokens_join_to_sentences_with_emoji_and_cjk() -> None:
    tokens = generate_text("Hello", 2_000)

    text = "".join(tokens)
    assert "  " not in text
    assert " ." not in text
    assert all(tokens)
    assert "🌊" in text
    assert "水" in text
    assert text.count(".") > 50
