"""YAML and JSON text to data with lines; garbage is an error of one kind."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.client.document import MAX_DEPTH, MAX_SIZE, DocumentError, read

TEXT = b"""# a comment
kind: Service
metadata:
  name: orders
  created: 2024-01-01T00:00:00Z
spec:
  ports:
    - port: 0x50
    - {port: 010, start: 10:30}
  flag: off
---
---
base: &base {a: 1, b: 2}
more:
  <<: *base
  b: 3
same: *base
"""


def test_data_and_lines() -> None:
    first, second = read(TEXT)
    assert first.data == {
        "kind": "Service",
        "metadata": {"name": "orders", "created": "2024-01-01T00:00:00Z"},
        "spec": {"ports": [{"port": 80}, {"port": 8, "start": "10:30"}], "flag": False},
    }
    assert second.data == {"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}, "same": {"a": 1, "b": 2}}
    assert first.line(("metadata", "name")) == 4
    assert first.line(("spec", "ports", 1, "port")) == 9
    assert first.line(("spec", "ports", 7)) == 7
    assert first.line(("spec", "absent")) == 6
    assert second.line(()) == 13


@pytest.mark.parametrize(
    ("text", "line", "wrong", "right"),
    [
        (b"a: [1\nb: 2", 2, "expected", "indentation"),
        (b"a:\n\tb: 1", 2, "cannot start any token", "tab"),
        (b"a: 1\nb: 2\na: 3", 3, "'a' is there twice", "one"),
        (b"a: &x [*x]", 1, "alias inside", "no alias"),
        (b"a: *nothing", 1, "undefined alias", ""),
        (b"x: 1\n? [a]\n: 1", 2, "key is not text", "word"),
        (b"a: \x00", 1, "control characters", "UTF-8"),
        (b"a: \xff", 1, "", "UTF-8"),
        (b"x\n" * 3 + b"<<: 3: 4", 4, "", ""),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), 1, "nested too deeply", str(MAX_DEPTH)),
        (b"[" * 100_000, 1, "", ""),
        (b" " * (MAX_SIZE + 1), 1, "bytes", "at most"),
    ],
)
def test_what_is_no_yaml(text: bytes, line: int, wrong: str, right: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert caught.value.line == line
    assert wrong in caught.value.wrong
    assert right in caught.value.right


def test_aliases_do_not_multiply() -> None:
    """Ten levels of ten aliases each would be 10 GB if they were copied."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (only,) = read("\n".join(lines).encode())
    assert isinstance(only.data, dict)
    assert len(only.data["a9"]) == 10


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"#?%\n\t ,<0", max_size=60).map(str.encode))
def test_garbage_is_data_or_an_error(text: bytes) -> None:
    try:
        documents = read(text)
    except DocumentError as error:
        told = error
    else:
        assert all(document.line(("a", 0, "b")) >= 1 for document in documents)
        return
    assert told.line >= 1
    assert told.wrong


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="ascii", min_codepoint=32), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1, max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=3))
def test_json_is_read_as_it_is(data: dict[str, Any]) -> None:
    (document,) = read(json.dumps(data).encode())
    assert document.data == data
    (document,) = read(json.dumps(data, indent="\t").encode())
    assert document.data == data
