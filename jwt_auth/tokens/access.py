"""Access tokens: signed JWTs that say who calls, for some minutes (RFC 9068)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from jwt_auth.tokens import jws
from jwt_auth.tokens.claims import SignedClaims
from jwt_auth.tokens.keys import KeyRing
from jwt_auth.tokens.policy import Policy

TYPE = "at+jwt"
# RFC 9068 section 4: this, or with the prefix "application/"; "any other value" is refused.
TYPES = frozenset({TYPE, f"application/{TYPE}"})

# What a project's own claims cannot override. `cnf` would make a token of ours one
# that we refuse.
RESERVED = frozenset(
    "iss sub aud exp nbf iat jti sid auth_time amr roles cnf".split()  # noqa: SIM905
)


class SessionFacts(NamedTuple):
    """What an access token says of its login session."""

    id: UUID
    authenticated_at: datetime
    methods: Sequence[str]
    ends_at: datetime


class IssuedToken(NamedTuple):
    """A signed access token and its life in whole seconds."""

    raw: str
    expires_in: int

    def __repr__(self) -> str:
        return f"<IssuedToken for {self.expires_in} s>"


class Encryption(Protocol):
    """Encrypts signed tokens and opens encrypted ones; it is `tokens.jwe.EncryptionRing`."""

    def seal(self, signed: str) -> str:
        """Return the token to hand out for *signed*."""

    def open(self, raw: str) -> str:
        """Return the signed token in *raw*."""


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Issues and verifies the access tokens of one issuer: this project.

    `audience` is the value of ``aud`` as it is written into a token. Without
    `encryption` an encrypted token is refused by its form.
    """

    ring: KeyRing
    policy: Policy
    lifetime: timedelta
    audience: str | Sequence[str] | None = None
    encryption: Encryption | None = None

    def issue(
        self,
        subject: str,
        *,
        now: datetime,
        session: SessionFacts | None,
        roles: Sequence[str] | None,
        extra: Mapping[str, Any],
    ) -> IssuedToken:
        """Sign a token for *subject*.

        It lives for `lifetime`, but not beyond the end of *session*. Names of
        *extra* that are reserved lose against what is said here.

        Raises:
            TypeError, ValueError: *extra* or *roles* is no JSON, or too much of it.
        """
        issued = int(now.timestamp())
        expires = issued + int(self.lifetime.total_seconds())
        members: dict[str, Any] = {
            name: value for name, value in extra.items() if name not in RESERVED
        }
        if self.policy.issuer is not None:
            members["iss"] = self.policy.issuer
        if self.audience is not None:
            members["aud"] = self.audience
        if session is not None:
            expires = min(expires, int(session.ends_at.timestamp()))
            members["sid"] = str(session.id)
            # OpenID Connect Core section 2 for auth_time, RFC 8176 for amr.
            members["auth_time"] = int(session.authenticated_at.timestamp())
            members["amr"] = list(session.methods)
        if roles is not None:
            members["roles"] = list(roles)
        members |= {
            "sub": subject,
            "iat": issued,
            "exp": expires,
            "jti": secrets.token_urlsafe(16),
        }
        raw = jws.sign(members, self.ring.signing, TYPE)
        if self.encryption is not None:
            raw = self.encryption.seal(raw)
        return IssuedToken(raw, expires - issued)

    def unsafe_read(self, raw: str) -> SignedClaims:
        """Check form, signature and every rule but those on time, which `policy` checks.

        Revocation is not looked at. For the same *raw*, the same comes out each time.

        Raises:
            TokenNotValid: not a genuine access token of this issuer.
        """
        signed = raw if self.encryption is None else self.encryption.open(raw)
        claims = jws.verify(signed, self.ring, TYPES)
        self.policy.check_content(claims)
        return claims
