"""A claim set in a program's hands."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_auth.errors import TokenNotValid
from jwt_auth.tokens import jws
from jwt_auth.tokens.claims import MAX_DEPTH, Claims, is_too_deep, read_object
from jwt_auth.tokens.keys import KeyRing, load_key

SID = "3f322a84-880b-4a5b-864b-6f8783737255"


def claims(**changes: Any) -> Claims:
    """Make a claim set."""
    return Claims({"sub": "7", "exp": 1_800_000_000, **changes})


def test_a_claim_set_is_a_mapping() -> None:
    one = claims(sid=SID, roles=["a", "b"], scope="x y", aud=["api"])
    assert one["sub"] == one.subject == "7"
    assert one["roles"] == ["a", "b"]
    assert one.roles == ("a", "b")
    assert one.scopes == {"x", "y"}
    assert one.session_id == UUID(SID)
    assert one.expires_at == datetime(2027, 1, 15, 8, tzinfo=UTC)
    assert one.audiences == ("api",)
    assert dict(one) == {**one}
    assert len(one) == 6
    assert "7" not in repr(one)
    with pytest.raises(KeyError):
        one["iss"]


def test_nothing_handed_out_leads_back_in() -> None:
    one = claims(roles=["a"], x={"y": [1]})
    one["roles"].append("admins")
    one["x"]["y"].append(2)
    dict(one)["x"]["z"] = 3
    assert one.roles == ("a",)
    assert one["x"] == {"y": [1]}


text = st.text(st.characters(codec="utf-8"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
json_values = scalars | st.lists(scalars | st.lists(scalars)) | st.dictionaries(text, scalars)


@given(value=json_values)
def test_what_is_signed_comes_back(value: Any) -> None:
    key = load_key("q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o", private=True)
    raw = jws.sign({"sub": "7", "exp": 1, "x": value}, key, "x")
    assert jws.verify(raw, KeyRing(key), frozenset({"x"}))["x"] == value


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_refusal(raw: bytes) -> None:
    with contextlib.suppress(TokenNotValid):
        assert isinstance(read_object(raw), dict)


@given(raw=st.text(max_size=300))
def test_any_text_is_a_refusal(raw: str) -> None:
    ring = KeyRing(load_key("q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o", private=True))
    with pytest.raises(TokenNotValid):
        jws.verify(raw, ring, frozenset({"at+jwt"}))


@pytest.mark.parametrize(
    "granted",
    [
        {"roles": "editors"},
        {"roles": ["editors", 7]},
        {"scope": ["orders:read"]},
        {"scope": None},
        {"scope": 7},
        {"role": ["editors"]},
        {"roles": ["editors"], "sub": "1"},
    ],
    ids=repr,
)
def test_what_is_granted_to_a_stranger_has_its_type(granted: dict[str, Any]) -> None:
    claims = Claims({"sub": "1", "exp": 2, "roles": ["admins"]})
    with pytest.raises(TypeError, match="granted are"):
        claims.of_a_stranger(granted)


DEEP = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
AT_THE_BOUND = {
    "lists": b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    "objects": b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH,
    "side by side": b"[" + b",".join([b"[[{}]]"] * 1000) + b"]",
    "in a string": b'["' + DEEP + b'"]',
    "in a name": b'{"' + DEEP + b'": 1}',
    "behind an escaped quote": b'["\\"' + DEEP + b'"]',
    "behind an escaped backslash and quote": b'["\\\\\\"' + DEEP + b'"]',
    "behind a string that ends in a backslash": b'["\\\\", "' + DEEP + b'"]',
}
BEYOND_THE_BOUND = {
    "lists": DEEP,
    "objects": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "mixed": b'[{"a":' * MAX_DEPTH + b"1" + b"}]" * MAX_DEPTH,
    "behind a string": b'["x", ' + DEEP + b"]",
    "behind an escaped quote": b'["\\"", ' + DEEP + b"]",
    "behind an escaped backslash": b'["\\\\", ' + DEEP + b"]",
    "behind a bracket in a string": b'["]]", ' + DEEP + b"]",
    "opened alone": b"[" * (MAX_DEPTH + 1),
    "closed by others": b"[" * (MAX_DEPTH + 1) + b"}" * (MAX_DEPTH + 1),
    "before an end of all": DEEP + b"]" * 100,
}


@pytest.mark.parametrize("raw", AT_THE_BOUND.values(), ids=AT_THE_BOUND)
def test_json_at_the_bound_is_not_too_deep(raw: bytes) -> None:
    json.loads(raw)
    assert not is_too_deep(raw)


@pytest.mark.parametrize("raw", BEYOND_THE_BOUND.values(), ids=BEYOND_THE_BOUND)
def test_deeper_text_is_too_deep(raw: bytes) -> None:
    assert is_too_deep(raw)


def depth(value: Any) -> int:
    """Return how many levels *value* has."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


letters = st.text('[]{}"\\ab', max_size=5)
nested_json = st.recursive(
    letters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=2),
    max_leaves=30,
)


@given(value=nested_json, wrapped=st.integers(0, 20))
def test_depth_is_that_of_the_parsed_value(value: Any, wrapped: int) -> None:
    for _ in range(wrapped):
        value = [value]
    assert is_too_deep(json.dumps(value).encode()) == (depth(value) > MAX_DEPTH)
