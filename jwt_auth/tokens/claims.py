"""The claims of a token: strict JSON, strict types, and how far each is trusted."""

from __future__ import annotations

import copy
import json
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NewType, NoReturn
from uuid import UUID

from jwt_auth.errors import TokenNotValid

# Python's parser recurses; where it gives up differs from version to version. No
# honest header or claim set comes near this depth.
MAX_DEPTH = 16
MAX_ID_LENGTH = 255
# The last second that a `datetime` can hold.
LAST_SECOND = 253_402_300_799

# RFC 4648 section 3.5: the bits that a last character does not need are zero, so
# that every value has one spelling. By the number of characters in the last group.
_CANONICAL_LAST = {0: None, 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}

_GRANTS = frozenset({"roles", "scope"})
# is_too_deep() makes all brackets square and deletes all other bytes.
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_IMMUTABLE = (str, int, float, bool, type(None))


def read_segment(segment: str) -> bytes:
    """Decode one *segment* of a token (RFC 7515 section 2), of which there is one spelling.

    *segment* consists of the letters of base64url: whoever split the token has seen to that.

    Raises:
        TokenNotValid: not base64url without padding and spare bits.
    """
    remainder = len(segment) % 4
    if remainder == 1:
        raise TokenNotValid("not base64url")
    last = _CANONICAL_LAST[remainder]
    if last is not None and segment[-1] not in last:
        raise TokenNotValid("not canonical base64url")
    return urlsafe_b64decode(segment + "=" * (-remainder % 4))


def read_object(raw: bytes) -> dict[str, Any]:
    """Parse *raw* as exactly one JSON object (RFC 7515 section 5.2, RFC 7519 section 7.2).

    Stricter than `json.loads`, so that no two parsers of one token can disagree:
    UTF-8 alone and without a byte order mark, no name twice, no NaN or infinity,
    no lone surrogate, at most `MAX_DEPTH` levels.

    Raises:
        TokenNotValid: anything else.
    """
    try:
        # json.loads(bytes) would guess UTF-16 and UTF-32 as well.
        text = raw.decode("utf-8")
        if is_too_deep(raw):
            raise TokenNotValid("nested too deeply")
        value = _DECODER.decode(text)
        if "\\u" in text:
            # "\ud800" is legal JSON, but no text: a database would refuse it later.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except ValueError:
        raise TokenNotValid("not strict JSON") from None
    if not isinstance(value, dict):
        raise TokenNotValid("not a JSON object")
    return value


def is_too_deep(raw: bytes) -> bool:
    """Tell whether *raw* has JSON values nested deeper than `MAX_DEPTH` levels.

    A parser recurses that deep before it finds any other fault, so this runs first. It takes
    linear time and no Python code per byte. It is also true for brackets without a partner,
    which are not JSON.
    """
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    # Escaped quotes go first. Then every second piece between quotes is outside a string.
    pieces = raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    brackets = b"".join(pieces[::2]).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        # This removes the innermost level of every value at once.
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 7515 section 4 and RFC 7519 section 4: duplicate names are refused.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _finite(text: str) -> float:
    # float("1e400") is infinity, and an `exp` of infinity never ends.
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _no_constant(name: str) -> Any:
    # RFC 8259 section 6: NaN and Infinity are not JSON.
    raise ValueError(name)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_float=_finite, parse_constant=_no_constant
)


class Claims(Mapping[str, Any]):
    """A claim set whose registered claims have the types of RFC 7519 section 4.1.

    Immutable: one set serves many requests, and nothing that one of them does can be seen
    by another. Item access hands out copies of lists and objects.

    `subject`, `expires` and whatever else is present have been checked for type
    and form, not for meaning; how far a set is trusted is said by `SignedClaims`
    and `VerifiedClaims`. `session_id` is `None` unless ``sid`` is a UUID in its
    canonical spelling.

    Raises:
        TokenNotValid: ``sub`` or ``exp`` is missing, or a claim has a wrong type.
    """

    __slots__ = (
        "_members",
        "audiences",
        "expires",
        "issued",
        "issuer",
        "not_before",
        "session_id",
        "subject",
    )

    _members: Mapping[str, Any]
    issuer: str | None
    subject: str
    audiences: tuple[str, ...]
    expires: float
    not_before: float | None
    issued: float | None
    session_id: UUID | None

    def __init__(self, members: dict[str, Any]) -> None:
        issuer = _optional_text(members, "iss")
        subject = _optional_text(members, "sub")
        audiences = _audiences(members)
        expires = _optional_time(members, "exp")
        not_before = _optional_time(members, "nbf")
        issued = _optional_time(members, "iat")
        _optional_id(members, "jti")
        session_id = _uuid(_optional_id(members, "sid"))
        if subject is None or expires is None:
            raise TokenNotValid("sub or exp is missing")
        _set(self, "_members", MappingProxyType(members))
        _set(self, "issuer", issuer)
        _set(self, "subject", subject)
        _set(self, "audiences", audiences)
        _set(self, "expires", expires)
        _set(self, "not_before", not_before)
        _set(self, "issued", issued)
        _set(self, "session_id", session_id)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("claims are immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("claims are immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        # For tasks and caches, and for copies of what holds claims.
        return _restored, (dict(self._members), self.session_id)

    def of_a_stranger(self, granted: Mapping[str, Any]) -> Claims:
        """Return a copy for a token of another issuer, with what it is *granted* here.

        Its own ``roles`` and ``scope`` count for nothing, and its session is none of
        ours: `session_id` is `None`, whatever ``sid`` says.

        Raises:
            TypeError: *granted* has another name than ``roles`` and ``scope``, or one has
                a wrong type.
        """
        members = {name: one for name, one in self._members.items() if name not in _GRANTS}
        stranger = _restored({**members, **copy.deepcopy(dict(granted))}, None)
        if not _GRANTS.issuperset(granted) or (
            ("roles" in granted and len(stranger.roles) != len(granted["roles"]))
            or not isinstance(granted.get("scope", ""), str)
        ):
            raise TypeError("granted are `roles`, a list of strings, and `scope`, a string")
        return stranger

    def __getitem__(self, name: str) -> Any:
        value = self._members[name]
        return value if isinstance(value, _IMMUTABLE) else copy.deepcopy(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"<Claims: {', '.join(map(ascii, self._members))}>"

    @property
    def expires_at(self) -> datetime:
        """``exp`` in UTC."""
        return datetime.fromtimestamp(self.expires, UTC)

    @property
    def authenticated_at(self) -> datetime | None:
        """``auth_time`` in UTC; `None` unless it is a time."""
        try:
            seconds = _optional_time(self._members, "auth_time")
        except TokenNotValid:
            return None
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    @property
    def roles(self) -> tuple[str, ...]:
        """The strings of the claim ``roles``; empty unless it is a list of strings."""
        value = self._members.get("roles")
        if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
            return ()
        return tuple(value)

    @property
    def scopes(self) -> frozenset[str]:
        """The words of the claim ``scope`` (RFC 8693 section 4.2); empty unless a string."""
        value = self._members.get("scope")
        return frozenset(value.split(" ")) - {""} if isinstance(value, str) else frozenset()


_set = object.__setattr__


def _restored(members: dict[str, Any], session_id: UUID | None) -> Claims:
    """Return claims with a *session_id* that need not be what ``sid`` says."""
    claims = Claims(members)
    _set(claims, "session_id", session_id)
    return claims


# The type is the receipt: only jws.verify() makes the first, only a policy the second.
SignedClaims = NewType("SignedClaims", Claims)
VerifiedClaims = NewType("VerifiedClaims", Claims)


def _optional_text(members: Mapping[str, Any], name: str) -> str | None:
    if name not in members:
        return None
    value = members[name]
    if not _is_text(value):
        raise TokenNotValid(f"{name} is not a non-empty string without NUL")
    text: str = value
    return text


def _is_text(value: Any) -> bool:
    # PostgreSQL refuses NUL in any text, so that a project's query with it would fail.
    return isinstance(value, str) and value != "" and "\x00" not in value


def _optional_id(members: Mapping[str, Any], name: str) -> str | None:
    value = _optional_text(members, name)
    if value is not None and len(value) > MAX_ID_LENGTH:
        raise TokenNotValid(f"{name} is too long")
    return value


def _audiences(members: Mapping[str, Any]) -> tuple[str, ...]:
    # RFC 7519 section 4.1.3: an array of strings, or one string.
    if "aud" not in members:
        return ()
    value = members["aud"]
    audiences = value if isinstance(value, list) else [value]
    if not audiences or not all(map(_is_text, audiences)):
        raise TokenNotValid("aud is not one or more non-empty strings without NUL")
    return tuple(audiences)


def _optional_time(members: Mapping[str, Any], name: str) -> float | None:
    if name not in members:
        return None
    value = members[name]
    # By type and not isinstance: bool is an int, and `"exp": true` must not read as
    # one second.
    if type(value) not in (int, float) or not 0 <= value <= LAST_SECOND:
        raise TokenNotValid(f"{name} is not a time")
    return float(value)


def _uuid(text: str | None) -> UUID | None:
    # UUID() takes braces, upper case and missing hyphens; a session has one name.
    return None if text is None or _UUID.fullmatch(text) is None else UUID(text)
