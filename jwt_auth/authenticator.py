"""The one door: a raw credential becomes (user, claims), or is refused.

Every skin asks here, and no skin decides anything about a token. The sync and the
async path make the same decisions and differ where they wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jwt_auth.revocation import Revocations
from jwt_auth.tokens.access import AccessTokens
from jwt_auth.tokens.claims import SignedClaims, VerifiedClaims
from jwt_auth.users import Accounts, OnRefusal, TokenUser


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Verifies access tokens and says whose they are.

    `revocations` is `None` where nothing can be revoked before ``exp``: without
    sessions, or with the list switched off.
    """

    tokens: AccessTokens
    accounts: Accounts
    revocations: Revocations | None
    clock: Callable[[], datetime]

    def verify(self, raw: str) -> VerifiedClaims:
        """Check everything about *raw* that needs no user row.

        Raises:
            TokenNotValid, TokenExpired, SessionEnded: it is refused.
            Unavailable: the database did not say whether its session was revoked.
        """
        claims = self.tokens.verify(raw, self.clock())
        if self.revocations is not None:
            self.revocations.check(claims)
        return claims

    async def averify(self, raw: str) -> VerifiedClaims:
        """See verify()."""
        claims = self.tokens.verify(raw, self.clock())
        if self.revocations is not None:
            await self.revocations.acheck(claims)
        return claims

    def authenticate(
        self, raw: str, load_user: str, on_refusal: OnRefusal
    ) -> tuple[Any, VerifiedClaims]:
        """Return the user of *raw* and its claims.

        *load_user* is a value of ``LOAD_USER``. With ``"lazy"`` the user row is read
        at the first touch, and a refusal then goes to *on_refusal*.

        Raises:
            TokenNotValid, TokenExpired, SessionEnded: it is refused.
            Unavailable: the database failed.
        """
        claims = self.verify(raw)
        if load_user == "eager":
            return self.accounts.load(claims), claims
        return self._without_query(claims, load_user, on_refusal), claims

    async def aauthenticate(
        self, raw: str, load_user: str, on_refusal: OnRefusal
    ) -> tuple[Any, VerifiedClaims]:
        """See authenticate()."""
        claims = await self.averify(raw)
        if load_user == "eager":
            return await self.accounts.aload(claims), claims
        return self._without_query(claims, load_user, on_refusal), claims

    def unsafe_verify_expired(self, raw: str) -> SignedClaims:
        """Check *raw* but for times and revocation. Good for a logout alone.

        Raises:
            TokenNotValid: it is not genuine.
        """
        return self.tokens.unsafe_verify_expired(raw)

    def _without_query(self, claims: VerifiedClaims, load_user: str, on_refusal: OnRefusal) -> Any:
        if load_user == "never":
            return TokenUser(claims)
        return self.accounts.lazy(claims, on_refusal)
