import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidInput
from services.gateway.chat_request import read_chat_request

HELLO = {"messages": [{"role": "user", "content": "merhaba"}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["messages", "model", "user", "stream", "stream_options", "max_tokens", "n", "tools"]
)


def read(**fields: Any) -> Any:
    return read_chat_request(json.dumps(HELLO | fields).encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "expected JSON in UTF-8"),
        (b"{", "expected JSON in UTF-8"),
        (b'{"messages": "\xff"}', "expected JSON in UTF-8"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "expected JSON in UTF-8"),
        (b"[]", "expected a JSON object, found an empty list"),
        (b"{}", "messages: expected a list with a message, found null or nothing"),
        (b'{"messages": []}', "found an empty list"),
        (b'{"messages": [1]}', r"messages\[0\]: expected an object with a role, found a number"),
        (b'{"messages": [{"content": "x"}]}', r"messages\[0\]: expected an object with a role"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(body: bytes, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        read_chat_request(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 3), ("user", []), ("stream", "yes"), ("max_tokens", 0), ("max_tokens", 1.5),
        ("max_tokens", True), ("n", 0), ("n", 17), ("stream_options", 1),
        ("stream_options", {"include_usage": True}),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=field):
        read(**{field: value})


def test_a_body_nested_too_deep_is_refused_not_crashed_on() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested"):
        read(tools=deep)
    with pytest.raises(InvalidInput, match="nested"):
        read(metadata=deep).upstream_body("base", 5)


def test_unknown_fields_pass_and_ours_replace_the_clients() -> None:
    request = read(
        stream=True, seed=7, odd={"a": [1]}, max_completion_tokens=900, model="acme",
        stream_options={"include_usage": False},
    )  # fmt: skip
    sent = json.loads(request.upstream_body("acme-0123456789ab", 50))
    assert sent == HELLO | {
        "stream": True,
        "seed": 7,
        "odd": {"a": [1]},
        "model": "acme-0123456789ab",
        "max_tokens": 50,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_the_prompt_bound_covers_every_byte_of_the_messages(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    bound = read(messages=messages).prompt_bound
    assert bound >= sum(len(text.encode()) for text in texts)


@given(st.dictionaries(NAMES, JSON, max_size=5))
def test_any_json_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(InvalidInput):
        request = read(**fields)
        sent = json.loads(request.upstream_body("base", 1))
        assert sent["model"] == "base"
