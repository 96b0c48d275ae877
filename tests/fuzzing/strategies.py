"""What hypothesis makes: JSON, claims, headers, and genuine texts that were damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The suite has little time; `tox -e fuzz` has more.
FACTOR = int(os.environ.get("JWT_AUTH_TEST_EXAMPLES", "1"))


def examples(number: int) -> Any:
    """Have a test try *number* examples, or a multiple of it.

    All of them meet one project and one database, so that what one leaves behind would
    show in those after it.
    """
    return settings(
        max_examples=number * FACTOR,
        # Nor does a loaded machine fail them.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


text = st.text(st.characters(codec="utf-8"), max_size=40)
# Names of issuers, users and audiences are not empty and have no NUL.
claim_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | text
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
json_objects = st.dictionaries(text, json_values, max_size=5)

# Near the truth: what a claim or a member may nearly be.
near_numbers = st.sampled_from([0, 1, -1, 0.5, 2**31, 2**53, 2**64, 1e300, -0.0, 253_402_300_800])
near_texts = st.sampled_from(
    ["", " ", "0", "null", "at+jwt", "HS256", "none", "k1", "\x00", "é", "x" * 256, "[]", "{}"]
)
near_values = json_values | near_numbers | near_texts | st.lists(near_texts, max_size=2)


@st.composite
def changed(draw: Callable[..., Any], good: dict[str, Any], names: Sequence[str] = ()) -> Any:
    """Return a good object with members changed, taken out, and put in."""
    members = dict(good)
    for name in draw(st.lists(st.sampled_from([*good, *names]), max_size=3, unique=True)):
        members[name] = draw(near_values)
    for name in draw(st.lists(st.sampled_from([*good]), max_size=1)):
        members.pop(name, None)
    if draw(st.booleans()):
        members |= draw(json_objects)
    return members


def _flip(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    place = draw(st.integers(0, max(0, len(raw) * 8 - 1)))
    if not raw:
        return raw
    changed = raw[place // 8] ^ (1 << place % 8)
    return raw[: place // 8] + bytes([changed]) + raw[place // 8 + 1 :]


def _other_letter(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    if not raw:
        return raw
    # Letters of base64url, and rather at the end of a segment, where bits may be spare.
    ends = [place - 1 for place in range(1, len(raw) + 1) if raw[place : place + 1] in (b".", b"")]
    place = draw(st.sampled_from(ends) | st.integers(0, max(0, len(raw) - 1)))
    letter = draw(st.sampled_from(b"AQgwBE-_z09.="))
    return raw[:place] + bytes([letter]) + raw[place + 1 :]


def _cut(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(raw))] * 2)))
    return raw[:start] + raw[end:]


def _insert(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    place = draw(st.integers(0, len(raw)) | st.sampled_from([0, len(raw)]))
    more = draw(st.binary(max_size=4) | st.sampled_from([b"=", b".", b"A", b" ", b"\n", b"\x00"]))
    return raw[:place] + more + raw[place:]


def _splice(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    other = draw(st.sampled_from(others))
    return raw[: draw(st.integers(0, len(raw)))] + other[draw(st.integers(0, len(other))) :]


def _swap(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    """Put the segments of several tokens together, in any order."""
    segments = [one for other in (raw, *others) for one in other.split(b".")]
    number = raw.count(b".") + 1
    chosen = draw(st.lists(st.sampled_from(segments), min_size=number, max_size=number))
    return b".".join(chosen)


def _another_segment(draw: Callable[..., Any], raw: bytes, others: Sequence[bytes]) -> bytes:
    """Put one segment of another token in the place of its own."""
    segments, other = raw.split(b"."), draw(st.sampled_from(others)).split(b".")
    place = draw(st.integers(0, min(len(segments), len(other)) - 1))
    return b".".join([*segments[:place], other[place], *segments[place + 1 :]])


_WAYS = [_flip, _other_letter, _cut, _insert, _splice, _swap, _another_segment]


@st.composite
def damaged(draw: Callable[..., Any], genuine: Sequence[str]) -> str:
    """Return one of *genuine* after one to three mutations: now and then it is one of them.

    What is drawn depends on where their segments end. They are the same in every example,
    or hypothesis cannot repeat one.
    """
    others = [one.encode() for one in genuine]
    raw = draw(st.sampled_from(others))
    for way in draw(st.lists(st.sampled_from(_WAYS), min_size=1, max_size=3)):
        raw = way(draw, raw, others)
    return raw.decode("utf-8", "surrogateescape")
