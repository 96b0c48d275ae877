"""The one door: the credential of a request becomes a verdict, and every skin takes that.

No skin decides anything about a token. The sync and the async path make the same
decisions and differ where they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.views.decorators.debug import sensitive_variables

from jwt_auth.errors import Rejected, TokenNotValid, Unavailable
from jwt_auth.models import database_answers
from jwt_auth.revocation import Revocations
from jwt_auth.tokens.access import AccessTokens
from jwt_auth.tokens.claims import SignedClaims, VerifiedClaims
from jwt_auth.tokens.jws import Unverified
from jwt_auth.tokens.remote import RemoteIssuer
from jwt_auth.transports import (
    authorization,
    bearer_token,
    cookie_token,
    demand_csrf_token,
    is_unsafe,
)
from jwt_auth.users import Accounts, LazyUser, Strangers, TokenUser, fill, is_loaded

# What a skin does when a lazy user is refused: raise what its framework answers, or
# return the user to stand in where no answer can be given.
OnRefusal = Callable[[Rejected | Unavailable], AnonymousUser]

_KEPT = "_jwt_auth_verdict"


def stand_in(refusal: Rejected | Unavailable) -> AnonymousUser:
    """Return nobody: the user of a refused token before and after the view."""
    return AnonymousUser()


class Verdict:
    """What is said of the access token of one request, the same to every skin.

    Either `refusal` is set, or `claims` and `user` are those of a verified token.
    `from_cookie` tells how the token came. With `is_foreign` it is another issuer's: no
    row and no session here is its.
    A lazy user may be refused when the row is read at last: the verdict then turns
    into a refusal, of which `on_late_refusal` is told. The skin that is on
    stage sets it, for as long as its framework can answer.
    """

    __slots__ = (
        "_accounts",
        "_lazy",
        "claims",
        "credentials",
        "csrf_held",
        "from_cookie",
        "is_foreign",
        "on_late_refusal",
        "refusal",
        "user",
    )

    def __init__(self, credentials: Any, accounts: Accounts) -> None:
        self.credentials = credentials
        self.from_cookie = False
        self.csrf_held = False
        self.claims: VerifiedClaims | None = None
        self.is_foreign = False
        self.user: Any = AnonymousUser()
        self.refusal: Rejected | Unavailable | None = None
        self.on_late_refusal: OnRefusal = stand_in
        self._accounts = accounts
        self._lazy: LazyUser | None = None

    def __repr__(self) -> str:
        return f"<Verdict: {'verified' if self.refusal is None else self.refusal.code}>"

    @property
    def has_dead_cookie(self) -> bool:
        """Whether the token came in a cookie that is good for nothing any more."""
        return self.from_cookie and self.refusal is not None and self.refusal.status == 401

    async def auser(self) -> Any:
        """Return the user with the row loaded. It is ``request.auser()`` of Django.

        Raises:
            whatever `on_late_refusal` does.
        """
        try:
            await self.aload()
        except (Rejected, Unavailable) as error:
            self.refuse(error)
            return self.on_late_refusal(error)
        return self.user

    def load(self) -> None:
        """Load the user row, unless it is loaded or nobody asks for one.

        Raises:
            SessionEnded, TokenNotValid, Unavailable: see Accounts.load().
        """
        if self.claims is not None and self._lazy is not None and not is_loaded(self._lazy):
            fill(self._lazy, self._accounts.load(self.claims))

    async def aload(self) -> None:
        """See load()."""
        if self.claims is not None and self._lazy is not None and not is_loaded(self._lazy):
            row = await self._accounts.aload(self.claims)
            # Another task may have been faster, or have been refused.
            if not is_loaded(self._lazy):
                fill(self._lazy, row)

    def admit(self, claims: VerifiedClaims, load_user: str) -> None:
        """Let *claims* in, with the user that *load_user* asks for.

        Raises:
            TokenNotValid: ``sub`` is nothing that a user's key can be.
        """
        if self.is_foreign:
            return
        if load_user == "never":
            self.user = TokenUser(claims)
        else:
            if self._lazy is None:
                self._lazy = self._accounts.lazy(claims, self._load_late)
            self.user = self._lazy
        self.claims = claims

    def admit_stranger(self, user: Any, claims: VerifiedClaims) -> None:
        """Let another issuer's *claims* in, with the *user* that was made of them."""
        self.user, self.claims, self.is_foreign = user, claims, True

    def refuse(self, error: Rejected | Unavailable) -> None:
        """Turn into a refusal."""
        # Without its traceback, whose frames hold the token.
        self.refusal = error.with_traceback(None)
        self.claims, self.user = None, AnonymousUser()
        if self._lazy is not None and not is_loaded(self._lazy):
            # Whoever holds the lazy user holds nobody from now on.
            fill(self._lazy, self.user)

    def _load_late(self) -> Any:
        assert self.claims is not None  # noqa: S101
        try:
            return self._accounts.load(self.claims)
        except (Rejected, Unavailable) as error:
            self.refuse(error)
            return self.on_late_refusal(error)


def kept(request: Any) -> Verdict | None:
    """Return the verdict that *request* keeps since a skin asked for it."""
    verdict: Verdict | None = getattr(request, _KEPT, None)
    # Who changes the headers of a request asks about another token.
    return verdict if verdict is not None and verdict.credentials == _shown(request) else None


def _shown(request: Any) -> tuple[str, str]:
    """Return all that *request* may show: it decides which verdict is about it."""
    return authorization(request), request.META.get("HTTP_COOKIE", "")


class TrustedIssuer(NamedTuple):
    """Another issuer: how its tokens are verified, and what users are made of them."""

    tokens: RemoteIssuer
    users: Strangers


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Verifies access tokens and says whose they are.

    A token whose ``iss`` is one of `issuers` is verified by that one's keys and rules,
    any other by our own, unless none is ours (`accepts_own`). `revocations` is `None`
    where nothing can be revoked before ``exp``: without sessions, or with the list
    switched off.
    """

    tokens: AccessTokens
    accounts: Accounts
    revocations: Revocations | None
    issuers: Mapping[str, TrustedIssuer]
    accepts_own: bool
    access_cookie: str | None
    clock: Callable[[], datetime]

    @sensitive_variables()
    def judge(self, request: Any, load_user: str, *, by_cookie: bool = True) -> Verdict | None:
        """Return the verdict on the access token of *request*, or `None` without one.

        *request* is Django's own; it keeps the verdict, and nothing is verified
        twice however many skins ask. Without *by_cookie* a token in a cookie is none, even
        if ``COOKIES`` are on. *load_user* is a value of ``LOAD_USER``: with
        ``"lazy"`` the user row is read at the first touch. Nothing is raised: a
        refusal, a failing database included, is a verdict.
        """
        verdict = self._begun(request, by_cookie)
        if verdict.refusal is None:
            try:
                claims, issuer = verdict.claims, None
                if claims is None:
                    raw = self._token(request, verdict, by_cookie)
                    if raw is None:
                        return None
                    claims, issuer = self._verify(raw)
                if _needs_csrf_token(request, verdict):
                    self._demand_csrf_token(request, verdict)
                if issuer is not None:
                    # A function of the project: not before the request is known to be meant.
                    verdict.admit_stranger(*issuer.users.find(claims))
                verdict.admit(claims, load_user)
                if load_user == "eager":
                    verdict.load()
            except (Rejected, Unavailable) as error:
                verdict.refuse(error)
        setattr(request, _KEPT, verdict)
        return verdict

    @sensitive_variables()
    async def ajudge(
        self, request: Any, load_user: str, *, by_cookie: bool = True
    ) -> Verdict | None:
        """See judge()."""
        verdict = self._begun(request, by_cookie)
        if verdict.refusal is None:
            try:
                claims, issuer = verdict.claims, None
                if claims is None:
                    raw = self._token(request, verdict, by_cookie)
                    if raw is None:
                        return None
                    claims, issuer = await self._averify(raw)
                if _needs_csrf_token(request, verdict):
                    # Where the token is in Django's session, its store is asked.
                    await sync_to_async(self._demand_csrf_token)(request, verdict)
                if issuer is not None:
                    # A function of the project: not before the request is known to be meant.
                    verdict.admit_stranger(*await issuer.users.afind(claims))
                verdict.admit(claims, load_user)
                if load_user == "eager":
                    await verdict.aload()
            except (Rejected, Unavailable) as error:
                verdict.refuse(error)
        setattr(request, _KEPT, verdict)
        return verdict

    def _demand_csrf_token(self, request: Any, verdict: Verdict) -> None:
        with database_answers():
            demand_csrf_token(request)
        verdict.csrf_held = True

    def _begun(self, request: Any, by_cookie: bool) -> Verdict:
        verdict = kept(request)
        if verdict is not None and (by_cookie or not verdict.from_cookie):
            return verdict
        return Verdict(_shown(request), self.accounts)

    @sensitive_variables()
    def _token(self, request: Any, verdict: Verdict, by_cookie: bool) -> str | None:
        # The header wins, and if it is refused the cookie is not tried.
        raw = bearer_token(request)
        if raw is None and by_cookie and self.access_cookie is not None:
            verdict.from_cookie = self.access_cookie in request.COOKIES
            raw = cookie_token(request, self.access_cookie)
        return raw

    @sensitive_variables()
    def verify(self, raw: str) -> VerifiedClaims:
        """Check everything about *raw* that needs no user row.

        Of another issuer's claims, ``roles`` and ``scope`` are left out.

        Raises:
            TokenNotValid, TokenExpired, SessionEnded: it is refused.
            Unavailable: the database did not say whether its session was revoked, or
                another issuer's keys or list could not be fetched.
        """
        return _without_grants(*self._verify(raw))

    @sensitive_variables()
    async def averify(self, raw: str) -> VerifiedClaims:
        """See verify()."""
        return _without_grants(*await self._averify(raw))

    @sensitive_variables()
    def unsafe_verify_expired(self, raw: str) -> SignedClaims:
        """Check *raw* but for times and revocation. Good for a logout alone.

        Raises:
            TokenNotValid: it is not genuine.
        """
        self._demand_own()
        return self.tokens.unsafe_verify_expired(raw)

    @sensitive_variables()
    def _verify(self, raw: str) -> tuple[VerifiedClaims, TrustedIssuer | None]:
        foreign = self._foreign(raw)
        if foreign is not None:
            token, issuer = foreign
            return issuer.tokens.verify(token), issuer
        self._demand_own()
        claims = self.tokens.verify(raw, self.clock())
        if self.revocations is not None:
            self.revocations.check(claims)
        return claims, None

    @sensitive_variables()
    async def _averify(self, raw: str) -> tuple[VerifiedClaims, TrustedIssuer | None]:
        foreign = self._foreign(raw)
        if foreign is not None:
            token, issuer = foreign
            return await issuer.tokens.averify(token), issuer
        self._demand_own()
        claims = self.tokens.verify(raw, self.clock())
        if self.revocations is not None:
            await self.revocations.acheck(claims)
        return claims, None

    def _demand_own(self) -> None:
        if not self.accepts_own:
            raise TokenNotValid("none of a trusted issuer, and there are no others")

    @sensitive_variables()
    def _foreign(self, raw: str) -> tuple[Unverified, TrustedIssuer] | None:
        """Return the trusted issuer whose token *raw* says to be, if it says so.

        An encrypted token, which has five parts, can only be one of our own.
        """
        if not self.issuers or not isinstance(raw, str) or raw.count(".") != 2:
            return None
        token = Unverified(raw)
        name = token.unsafe_members.get("iss")
        issuer = self.issuers.get(name) if isinstance(name, str) else None
        if issuer is not None:
            return token, issuer
        if name != self.tokens.policy.issuer:
            # Our own rules would refuse it too; this says why.
            raise TokenNotValid("no issuer of this name is trusted")
        return None


def _needs_csrf_token(request: Any, verdict: Verdict) -> bool:
    # Each time that a skin asks: what lies between two of them may change the method.
    return verdict.from_cookie and not verdict.csrf_held and is_unsafe(request)


def _without_grants(claims: VerifiedClaims, issuer: TrustedIssuer | None) -> VerifiedClaims:
    return claims if issuer is None else VerifiedClaims(claims.of_a_stranger({}))
