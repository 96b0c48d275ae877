"""The list of ended sessions, as an issuer publishes it and as others follow it.

A JWT of type ``revoked+jwt``. ``sids`` is the base64url text of all digests in order,
eight bytes each; ``window`` says for how many seconds before ``iat`` ends are named.
"""

from __future__ import annotations

import hashlib
import math
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jwt_auth.errors import SessionEnded, TokenExpired, TokenNotValid, Unavailable
from jwt_auth.tokens import jws
from jwt_auth.tokens.claims import LAST_SECOND, VerifiedClaims, read_segment
from jwt_auth.tokens.keys import Key
from jwt_auth.tokens.policy import FUTURE_TOLERANCE

TYPE = "revoked+jwt"
TYPES = frozenset({TYPE, f"application/{TYPE}"})
DIGEST_LENGTH = 8
# More are not named one by one: older tokens are then refused whole.
LONGEST_PUBLISHED = 20_000
# What one follower keeps of one issuer, whatever that issuer says.
MOST_KEPT = 3 * LONGEST_PUBLISHED
# Whatever its `exp` says, no list serves for longer while it is withheld.
LONGEST_LIFE = 24 * 3600
_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def digest(session_id: str) -> bytes:
    """Return the digest of a session's id as it is written in the claim ``sid``.

    Who has the list cannot tell from it which sessions there are.
    """
    return hashlib.sha256(session_id.encode()).digest()[:DIGEST_LENGTH]


class Publisher:
    """Signs the list of this project. All durations are in seconds."""

    def __init__(self, key: Key, issuer: str | None, *, max_age: float, window: float) -> None:
        self._key = key
        self._issuer = issuer
        self._max_age = int(max_age)
        self._window = int(window)

    def sign(
        self, session_ids: Collection[UUID], read_at: datetime, named_since: datetime | None
    ) -> str:
        """Return the signed list of *session_ids* as of *read_at*.

        With *named_since*, sessions that were ended before are missing.
        """
        issued = int(read_at.timestamp())
        digests = sorted(digest(str(one)) for one in session_ids)
        members: dict[str, Any] = {
            "iat": issued,
            "exp": issued + self._max_age,
            "window": self._window,
            "sids": urlsafe_b64encode(b"".join(digests)).rstrip(b"=").decode("ascii"),
        }
        if self._issuer is not None:
            members["iss"] = self._issuer
        if named_since is not None:
            # Tokens of the second in which the list was read may be of either side.
            members["stale_before"] = min(math.ceil(named_since.timestamp()), issued + 1)
        return jws.sign_document(members, self._key, TYPE)


@dataclass(frozen=True, slots=True)
class RevokedList:
    """A list as it was read, or the union of several. Times are POSIX seconds.

    `digests` says of each until when it is kept. Tokens that were issued before
    `stale_before` are refused, whatever their session: either ends were too many to be
    named, or they may have come before the list's window.
    """

    issued: float
    expires: float
    stale_before: float
    digests: dict[bytes, float]

    def check(self, claims: VerifiedClaims, now: float) -> None:
        """Refuse claims whose session was ended.

        Raises:
            Unavailable: the list is past its ``exp``, and says nothing any more.
            TokenExpired: older than what the list can tell of.
            SessionEnded: the session was ended.
        """
        if now >= self.expires:
            raise Unavailable
        if claims.issued is None or claims.issued < self.stale_before:
            raise TokenExpired("older than what the list of ended sessions names")
        session_id = claims.get("sid")
        if session_id is not None and digest(session_id) in self.digests:
            raise SessionEnded("its issuer has ended the session")

    def and_before(self, before: RevokedList | None, now: float) -> RevokedList:
        """Return the union of this list and of those *before* that are still needed.

        An issuer of several processes may answer with a list that lacks an end which
        another one has named already.

        Raises:
            TokenNotValid: this list is older than what is known.
        """
        if before is None:
            return self
        if self.issued < before.issued:
            raise TokenNotValid("an older list than the last one")
        kept = {one: until for one, until in before.digests.items() if until > now}
        kept |= self.digests
        stale_before = max(self.stale_before, before.stale_before)
        if len(kept) > MOST_KEPT:
            kept, stale_before = self.digests, self.issued + 1
        return RevokedList(self.issued, self.expires, stale_before, kept)


def read_list(members: dict[str, Any], issuer: str, now: float, leeway: float) -> RevokedList:
    """Return the list in *members*, whose signature has held.

    Raises:
        TokenNotValid: not a list of *issuer*, not of this time, or malformed.
    """
    if members.get("iss") != issuer:
        raise TokenNotValid("a list of another issuer")
    issued, expires, window = (_seconds(members, name) for name in ("iat", "exp", "window"))
    # From a time to come it would shut out all that follow.
    if issued > now + max(leeway, FUTURE_TOLERANCE):
        raise TokenNotValid("a list that is not valid yet")
    if now >= expires + leeway:
        raise TokenNotValid("a list past its exp")
    stale_before = _seconds(members, "stale_before") if "stale_before" in members else 0
    return RevokedList(
        issued=issued,
        expires=min(expires, issued + LONGEST_LIFE) + leeway,
        # An issuer's tokens live no longer than its window. One that does, or did before its
        # lifetime was lowered, may be of a session whose end is not named any more.
        stale_before=max(min(stale_before, issued + 1), issued - window),
        digests=dict.fromkeys(_digests(members.get("sids")), issued + window),
    )


def _seconds(members: dict[str, Any], name: str) -> float:
    value = members.get(name)
    # By type and not isinstance: bool is an int.
    if type(value) not in (int, float) or not 0 <= value <= LAST_SECOND:  # type: ignore[operator]
        raise TokenNotValid(f"{name} is not a number of seconds")
    return float(value)  # type: ignore[arg-type]


def _digests(text: Any) -> list[bytes]:
    if not isinstance(text, str) or not _BASE64URL.issuperset(text):
        raise TokenNotValid("sids is not base64url")
    data = read_segment(text) if text else b""
    if len(data) % DIGEST_LENGTH or len(data) > DIGEST_LENGTH * LONGEST_PUBLISHED:
        raise TokenNotValid("sids is no list of digests, or too long")
    return [data[at : at + DIGEST_LENGTH] for at in range(0, len(data), DIGEST_LENGTH)]
