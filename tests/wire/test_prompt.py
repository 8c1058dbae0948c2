"""How much text a call brings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trioproxy.wire import measure_prompt


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({}, 0),
        ({"prompt": "Hello"}, 5),
        ({"prompt": "\u00e9\U0001f600\n"}, 3),
        ({"prompt": ["ab", "c"], "suffix": "de"}, 5),
        ({"prompt": [[1, 2, 3], [4]]}, 4),
        ({"prompt": None, "stream": True, "model": "m" * 99, "user": "x"}, 0),
        (
            {"messages": [{"role": "user", "content": "Hello"}, {"role": "system", "content": ""}]},
            5,
        ),
        (
            {
                "system": [{"type": "text", "text": "ab", "cache_control": {"type": "x"}}],
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "cd"},
                            {"type": "image", "source": {"type": "base64", "data": "x" * 99}},
                            {"type": "tool_result", "content": [{"type": "text", "text": "e"}]},
                        ],
                    }
                ],
            },
            5,
        ),
        (
            {
                "instructions": "ab",
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "cd"}]},
                    {"type": "function_call_output", "output": "ef"},
                    {"type": "input_image", "image_url": "data:" + "x" * 99},
                ],
            },
            6,
        ),
        (
            {
                "messages": [
                    {"tool_calls": [{"function": {"name": "n" * 9, "arguments": "abc"}}]},
                    {"content": {"unknown": "x" * 99}},
                ]
            },
            3,
        ),
        ({"messages": [[[[["ab"]]]], True, 1.5]}, 3),
    ],
)
def test_the_text_of_every_api_is_measured_and_nothing_else(body: Any, size: int) -> None:
    assert measure_prompt(json.dumps(body).encode()) == size


def test_of_a_repeated_field_the_last_counts() -> None:
    assert measure_prompt(b'{"prompt":"long text","prompt":"abc"}') == 3


def test_a_prompt_of_very_many_parts_is_not_looked_at_to_its_end() -> None:
    body = b'{"messages":[' + b"[]," * 300_000 + b'"a"]}'

    assert measure_prompt(body) == 1
    assert measure_prompt(body, up_to=1_000) == 1_001
    assert measure_prompt(b'{"prompt":"' + 5_000 * b"a" + b'"}', up_to=10) > 10
