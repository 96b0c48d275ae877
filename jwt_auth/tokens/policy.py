"""The rules that a claim set must pass: to be relied on, and to be let in somewhere."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from jwt_auth.errors import TokenNotValid
from jwt_auth.tokens.claims import SignedClaims, VerifiedClaims

# Hosts differ by some seconds; an early `iat` is no attack once the signature has held.
FUTURE_TOLERANCE = 60
# Of one host's rounding, not of another lifetime: the list of revoked sessions
# reaches back no further than ACCESS_TOKEN_LIFETIME + LEEWAY + this.
LIFETIME_SLACK = 60


@dataclass(frozen=True, slots=True)
class Policy:
    """What one issuer's tokens must say. All durations are in seconds.

    `issuer` `None` and `audiences` empty mean that a token carrying the claim is
    refused: it was made for somebody else's rules. `longest_life` bounds
    ``exp - iat``. `demanded` names claims beyond ``sub`` and ``exp``, which every claim set
    has.
    """

    issuer: str | None = None
    audiences: frozenset[str] = field(default_factory=frozenset)
    demanded: frozenset[str] = field(default_factory=frozenset)
    longest_life: float | None = None
    leeway: float = 0

    def validity(self, claims: SignedClaims) -> tuple[float, float]:
        """Return from when on, and before when, *claims* hold (POSIX seconds)."""
        # RFC 7519 section 4.1.5: not "before" nbf; iat is held to the same.
        begins = max(claims.not_before or 0, claims.issued or 0)
        # RFC 7519 section 4.1.4: "on or after" the expiry is too late.
        return begins - max(self.leeway, FUTURE_TOLERANCE), claims.expires + self.leeway

    def check_content(self, claims: SignedClaims) -> None:
        """Apply the rules that do not depend on the time.

        Raises:
            TokenNotValid: a rule is broken.
        """
        for name in self.demanded:
            if name not in claims:
                raise TokenNotValid(f"{name} is missing")
        # RFC 7519 section 4.1.1 and RFC 8725 section 3.8: exactly this issuer.
        if claims.issuer != self.issuer:
            raise TokenNotValid("another issuer")
        # RFC 7519 section 4.1.3 and RFC 8725 section 3.9: one member is ours.
        if self.audiences.isdisjoint(claims.audiences) and (self.audiences or claims.audiences):
            raise TokenNotValid("another audience")
        if "sid" in self.demanded and claims.session_id is None:
            raise TokenNotValid("sid is not the id of a session")
        # RFC 9449 section 7.2, RFC 8705 section 3: a token bound to a key is worth
        # nothing without the proof of possession, which nobody here can check.
        if "cnf" in claims:
            raise TokenNotValid("bound to a key")
        if (
            self.longest_life is not None
            and claims.issued is not None
            and claims.expires - claims.issued > self.longest_life + LIFETIME_SLACK
        ):
            raise TokenNotValid("lives longer than any token of this issuer")


def checked_names(kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return *names* of roles or scopes as a developer wrote them.

    Raises:
        TypeError: there are none, or one is no string, as when a decorator or a
            permission is used without its parentheses.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"Name at least one {kind}, as strings.")
    return names


def has_role(claims: VerifiedClaims, roles: Collection[str]) -> bool:
    """Tell whether *claims* name at least one of *roles*."""
    return not set(roles).isdisjoint(claims.roles)


def has_scopes(claims: VerifiedClaims, scopes: Collection[str]) -> bool:
    """Tell whether *claims* grant every one of *scopes* (RFC 6750 section 3.1)."""
    return claims.scopes.issuperset(scopes)


def has_recent_login(claims: VerifiedClaims, max_age: float, now: datetime) -> bool:
    """Tell whether the login behind *claims* is at most *max_age* seconds ago.

    RFC 9470 section 5, and OpenID Connect Core section 3.1.2.1: an elapsed time
    "greater than this value" is too long. A token without ``auth_time`` tells
    nothing, which is not enough.
    """
    login = claims.authenticated_at
    return login is not None and (now - login).total_seconds() <= max_age
