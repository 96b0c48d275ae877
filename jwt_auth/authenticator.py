"""The one door: the credential of a request becomes a verdict, and every skin takes that.

No skin decides anything about a token. The sync and the async path make the same
decisions and differ where they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.views.decorators.debug import sensitive_variables

from jwt_auth.errors import Rejected, TokenNotValid, Unavailable
from jwt_auth.models import database_answers
from jwt_auth.revocation import Revocations
from jwt_auth.tokens.access import AccessTokens
from jwt_auth.tokens.claims import SignedClaims, VerifiedClaims
from jwt_auth.tokens.jws import Unverified
from jwt_auth.tokens.keys import Key
from jwt_auth.tokens.memory import Genuine, TokenMemory
from jwt_auth.tokens.remote import RemoteIssuer
from jwt_auth.transports import (
    authorization,
    bearer_token,
    cookie_tokens,
    demand_csrf_token,
    is_unsafe,
)
from jwt_auth.users import Accounts, LazyUser, Strangers, TokenUser, fill, is_loaded

_KEPT = "_jwt_auth_verdict"


class Stage(Protocol):
    """Where a request is when a lazy user is refused."""

    def answer_late(self, refusal: Rejected | Unavailable) -> AnonymousUser:
        """Raise what the framework answers; where nobody would, return who stands in."""


class OffStage:
    """Before and after the view: the user of a refused token is nobody."""

    def answer_late(self, refusal: Rejected | Unavailable) -> AnonymousUser:
        """See Stage."""
        return AnonymousUser()


OFF_STAGE = OffStage()
_new = object.__new__


class Verdict:
    """What is said of the access token of one request, the same to every skin.

    Either `refusal` is set, or `claims` and `user` are those of a verified token.
    `from_cookie` tells how the token came. With `is_contested` it came in several cookies, of
    different users. With `is_foreign` it is another issuer's: no row and no session here is
    its.
    A lazy user may be refused when the row is read at last: the verdict then turns
    into a refusal, which its `stage` answers. A skin sets that for as long as its framework
    can answer.
    """

    # There is one in every request, which DRF keeps until Python collects its garbage. What is
    # always set has a slot, since an object without slots takes three times the memory, and
    # memory that was not used lately is what takes the time. The rest has a default.
    __slots__ = (
        "__dict__",
        "_lazy",
        "accounts",
        "authorization",
        "claims",
        "known_of_user",
        "stage",
        "user",
    )
    from_cookie = False
    is_contested = False
    csrf_held = False
    is_foreign = False
    refusal: Rejected | Unavailable | None = None

    accounts: Accounts
    claims: VerifiedClaims | None
    user: Any
    stage: Stage
    # What the lazy user knows of itself without its row.
    known_of_user: Mapping[str, Any]
    _lazy: LazyUser | None
    # What the request showed: its header, and its cookies if the token came in one.
    authorization: str
    cookies: str | None = None

    def __init__(self, request: Any, accounts: Accounts) -> None:
        self.authorization = authorization(request)
        self.accounts = accounts
        self.claims = self.user = self._lazy = None
        self.stage = OFF_STAGE

    def __repr__(self) -> str:
        return f"<Verdict: {'verified' if self.refusal is None else self.refusal.code}>"

    @property
    def has_dead_cookie(self) -> bool:
        """Whether the token came in a cookie that is good for nothing any more."""
        if self.is_contested:
            # Deleting the cookies that we can name would leave another host's to be the only one.
            return False
        return self.from_cookie and self.refusal is not None and self.refusal.status == 401

    def is_about(self, request: Any) -> bool:
        """Tell whether *request* still shows what this was said of."""
        return self.authorization == authorization(request) and (
            not self.from_cookie or self.cookies == request.META.get("HTTP_COOKIE")
        )

    async def auser(self) -> Any:
        """Return the user with the row loaded. It is ``request.auser()`` of Django.

        Raises:
            whatever `stage` does.
        """
        try:
            await self.aload()
        except (Rejected, Unavailable) as error:
            self.refuse(error)
            return self.stage.answer_late(error)
        return self.user

    def load(self) -> None:
        """Load the user row, unless it is loaded or nobody asks for one.

        Raises:
            SessionEnded, TokenNotValid, Unavailable: see Accounts.load().
        """
        if self.claims is not None and self._lazy is not None and not is_loaded(self._lazy):
            fill(self._lazy, self.accounts.load(self.claims))

    async def aload(self) -> None:
        """See load()."""
        if self.claims is not None and self._lazy is not None and not is_loaded(self._lazy):
            row = await self.accounts.aload(self.claims)
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
                self._lazy = self.accounts.lazy(claims, self)
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

    def load_late(self) -> Any:
        """Return the row for a user that is touched, or what the skin answers a refusal by."""
        claims = self.claims
        if claims is None:
            # Another thread has been refused meanwhile.
            return self.user
        try:
            return self.accounts.load(claims)
        except (Rejected, Unavailable) as error:
            self.refuse(error)
            return self.stage.answer_late(error)


def kept(request: Any) -> Verdict | None:
    """Return the verdict that *request* keeps since a skin asked for it."""
    verdict: Verdict | None = getattr(request, _KEPT, None)
    # Who changes the headers of a request asks about another token.
    return verdict if verdict is not None and verdict.is_about(request) else None


class TrustedIssuer(NamedTuple):
    """Another issuer: how its tokens are verified, and what users are made of them."""

    tokens: RemoteIssuer
    users: Strangers


Known = Genuine[TrustedIssuer]


class Tried(NamedTuple):
    """One of several genuine tokens, and why it is refused, if it is."""

    known: Known
    refusal: Rejected | None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Verifies access tokens and says whose they are.

    A token whose ``iss`` is one of `issuers` is verified by that one's keys and rules,
    any other by our own, unless none is ours (`accepts_own`). `revocations` is `None`
    where nothing can be revoked before ``exp``: without sessions, or with the list
    switched off. `memory` spares what was verified once the half of it that does not change
    with time. `headers` are those that a credential may come in, as ``Vary`` takes them. `clock`
    tells POSIX seconds.
    """

    tokens: AccessTokens
    accounts: Accounts
    revocations: Revocations | None
    issuers: Mapping[str, TrustedIssuer]
    accepts_own: bool
    access_cookie: str | None
    headers: str
    memory: TokenMemory[TrustedIssuer]
    clock: Callable[[], float]

    def judge(self, request: Any, load_user: str, by_cookie: bool = True) -> Verdict | None:
        """Return the verdict on the access token of *request*, or `None` without one.

        *request* is Django's own; it keeps the verdict, and nothing is verified
        twice however many skins ask. Without *by_cookie* a token in a cookie is none, even
        if ``COOKIES`` are on. *load_user* is a value of ``LOAD_USER``: with
        ``"lazy"`` the user row is read at the first touch. Nothing is raised: a
        refusal, a failing database included, is a verdict.
        """
        if not hasattr(request, _KEPT):
            verdict = self._at_once(request, load_user)
            if verdict is not None:
                return verdict
        verdict = kept(request)
        if verdict is None or (verdict.from_cookie and not by_cookie):
            verdict = Verdict(request, self.accounts)
        if verdict.refusal is None:
            try:
                claims, issuer = verdict.claims, None
                if claims is None:
                    known = self._read(request, verdict, by_cookie)
                    if known is None:
                        return None
                    claims, issuer = self._check(known), known.issuer
                if verdict.from_cookie and _needs_csrf_token(request, verdict):
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

    async def ajudge(self, request: Any, load_user: str, by_cookie: bool = True) -> Verdict | None:
        """See judge()."""
        if not hasattr(request, _KEPT):
            verdict = self._at_once(request, load_user)
            if verdict is not None:
                return verdict
        verdict = kept(request)
        if verdict is None or (verdict.from_cookie and not by_cookie):
            verdict = Verdict(request, self.accounts)
        if verdict.refusal is None:
            try:
                claims, issuer = verdict.claims, None
                if claims is None:
                    known = await self._aread(request, verdict, by_cookie)
                    if known is None:
                        return None
                    claims, issuer = await self._acheck(known), known.issuer
                if verdict.from_cookie and _needs_csrf_token(request, verdict):
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

    def _at_once(self, request: Any, load_user: str) -> Verdict | None:
        """Return the verdict on a token that is remembered, if nobody has to be asked.

        For most requests this is all there is, so it is written for speed. Whatever is not
        plainly good, or takes a wait, goes the long way, which says why it is refused.
        """
        # No variable holds the header: what fails in here is reported with its variables.
        genuine = self.memory.get(request.META.get("HTTP_AUTHORIZATION", ""))
        if genuine is None or genuine.issuer is not None or load_user == "eager":
            return None
        genuine.used = True
        now = self.clock()
        if not genuine.begins <= now < genuine.ends:
            return None
        # Verified by now; VerifiedClaims() would say so, at the price of a call.
        claims: Any = genuine.claims
        if self.revocations is not None and not self.revocations.vouch(claims, now):
            return None
        # What its __init__() does, with one call less.
        verdict = _new(Verdict)
        verdict.authorization = request.META["HTTP_AUTHORIZATION"]
        verdict.accounts, verdict.claims, verdict.stage = self.accounts, claims, OFF_STAGE
        if load_user == "never":
            verdict.user, verdict._lazy = TokenUser(claims), None
        else:
            try:
                verdict.user = verdict._lazy = self.accounts.lazy(claims, verdict)
            except TokenNotValid:
                return None
        request._jwt_auth_verdict = verdict
        return verdict

    def _demand_csrf_token(self, request: Any, verdict: Verdict) -> None:
        with database_answers():
            demand_csrf_token(request)
        verdict.csrf_held = True

    @sensitive_variables()
    def _read(self, request: Any, verdict: Verdict, by_cookie: bool) -> Known | None:
        raws = self._tokens(request, verdict, by_cookie)
        if len(raws) > 1:
            return _newest([self._tried(raw) for raw in raws], verdict)
        return self._genuine(raws[0]) if raws else None

    @sensitive_variables()
    async def _aread(self, request: Any, verdict: Verdict, by_cookie: bool) -> Known | None:
        raws = self._tokens(request, verdict, by_cookie)
        if len(raws) > 1:
            return _newest([await self._atried(raw) for raw in raws], verdict)
        return await self._agenuine(raws[0]) if raws else None

    @sensitive_variables()
    def _tokens(self, request: Any, verdict: Verdict, by_cookie: bool) -> list[str]:
        # The header wins, and if it is refused the cookie is not tried.
        raw = bearer_token(request)
        if raw is not None:
            return [raw]
        if not by_cookie or self.access_cookie is None:
            return []
        verdict.from_cookie = self.access_cookie in request.COOKIES
        verdict.cookies = request.META.get("HTTP_COOKIE")
        return cookie_tokens(request, self.access_cookie)

    @sensitive_variables()
    def _tried(self, raw: str) -> Tried | None:
        """Return what is known of *raw*, and why it is refused; `None` if it is not genuine."""
        try:
            known = self._genuine(raw)
        except TokenNotValid:
            return None
        try:
            self._check(known)
        except Rejected as refusal:
            # The frames of its traceback hold the token.
            return Tried(known, refusal.with_traceback(None))
        return Tried(known, None)

    @sensitive_variables()
    async def _atried(self, raw: str) -> Tried | None:
        """See _tried()."""
        try:
            known = await self._agenuine(raw)
        except TokenNotValid:
            return None
        try:
            await self._acheck(known)
        except Rejected as refusal:
            return Tried(known, refusal.with_traceback(None))
        return Tried(known, None)

    @sensitive_variables()
    def verify(self, raw: str) -> VerifiedClaims:
        """Check everything about *raw* that needs no user row.

        Of another issuer's claims, ``roles`` and ``scope`` are left out.

        Raises:
            TokenNotValid, TokenExpired, SessionEnded: it is refused.
            Unavailable: the database did not say whether its session was revoked, or
                another issuer's keys or list could not be fetched.
        """
        genuine = self._genuine(raw)
        return _without_grants(self._check(genuine), genuine.issuer)

    @sensitive_variables()
    async def averify(self, raw: str) -> VerifiedClaims:
        """See verify()."""
        genuine = await self._agenuine(raw)
        return _without_grants(await self._acheck(genuine), genuine.issuer)

    @sensitive_variables()
    def unsafe_verify_expired(self, raw: str) -> SignedClaims:
        """Check *raw* but for times and revocation. Good for a logout alone.

        Raises:
            TokenNotValid: it is not genuine.
        """
        return self._own(raw)

    @sensitive_variables()
    def _genuine(self, raw: str) -> Known:
        """Return what is known of *raw*, verified unless that was done before."""
        known = self.memory.get(_header(raw)) if isinstance(raw, str) else None
        if known is not None:
            issuer = known.issuer
            if issuer is None or issuer.tokens.key(known.header) is known.key:
                known.used = True
                return known
        foreign = self._foreign(raw)
        if foreign is None:
            return self._own_genuine(raw)
        token, issuer = foreign
        return self._foreign_genuine(raw, token, issuer, issuer.tokens.key(token.header))

    @sensitive_variables()
    async def _agenuine(self, raw: str) -> Known:
        """See _genuine()."""
        known = self.memory.get(_header(raw)) if isinstance(raw, str) else None
        if known is not None:
            issuer = known.issuer
            if issuer is None or await issuer.tokens.akey(known.header) is known.key:
                known.used = True
                return known
        foreign = self._foreign(raw)
        if foreign is None:
            return self._own_genuine(raw)
        token, issuer = foreign
        return self._foreign_genuine(raw, token, issuer, await issuer.tokens.akey(token.header))

    @sensitive_variables()
    def _own_genuine(self, raw: str) -> Known:
        claims = self._own(raw)
        known: Known = Genuine(claims, *self.tokens.policy.validity(claims))
        self.memory.keep(_header(raw), known)
        return known

    @sensitive_variables()
    def _foreign_genuine(
        self, raw: str, token: Unverified, issuer: TrustedIssuer, key: Key
    ) -> Known:
        claims = issuer.tokens.unsafe_read(token, key)
        known = Genuine(claims, *issuer.tokens.policy.validity(claims), issuer, key, token.header)
        self.memory.keep(_header(raw), known)
        return known

    def _check(self, genuine: Known) -> VerifiedClaims:
        """Check what changes with time: whether the claims hold now, and the session lasts."""
        if genuine.issuer is not None:
            return genuine.issuer.tokens.check(genuine)
        claims = genuine.at(self.clock())
        if self.revocations is not None:
            self.revocations.check(claims)
        return claims

    async def _acheck(self, genuine: Known) -> VerifiedClaims:
        """See _check()."""
        if genuine.issuer is not None:
            return await genuine.issuer.tokens.acheck(genuine)
        claims = genuine.at(self.clock())
        if self.revocations is not None:
            await self.revocations.acheck(claims)
        return claims

    @sensitive_variables()
    def _own(self, raw: str) -> SignedClaims:
        if not self.accepts_own:
            raise TokenNotValid("none of a trusted issuer, and there are no others")
        return self.tokens.unsafe_read(raw)

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
            # Nothing is fetched for what its header alone refuses.
            issuer.tokens.look_at(token.header)
            return token, issuer
        if name != self.tokens.policy.issuer:
            # Our own rules would refuse it too; this says why.
            raise TokenNotValid("no issuer of this name is trusted")
        return None


def _newest(tried: Iterable[Tried | None], verdict: Verdict) -> Known:
    """Return the token that counts, of several that came in cookies of one name.

    It is that of the newest session, and the newest of that session. Those that are not
    genuine, or refused, do not count beside one that is accepted.

    Raises:
        TokenNotValid: none is genuine, or those that are accepted are of different users.
        Rejected: all are refused, the newest for this reason.
    """
    newest_first = sorted(filter(None, tried), key=_login_and_issue, reverse=True)
    accepted = [one.known for one in newest_first if one.refusal is None]
    refused = [one.refusal for one in newest_first if one.refusal is not None]
    if not accepted:
        raise refused[0] if refused else TokenNotValid("several cookies, and none is genuine")
    if len({(known.claims.issuer, known.claims.subject) for known in accepted}) > 1:
        # A host of the same domain can plant a cookie, and nothing tells whose it is.
        verdict.is_contested = True
        raise TokenNotValid("cookies of different users")
    return accepted[0]


def _login_and_issue(one: Tried) -> tuple[float, float]:
    claims = one.known.claims
    login = claims.authenticated_at
    return 0 if login is None else login.timestamp(), claims.issued or 0


def _header(raw: str) -> str:
    """Return the header that shows *raw* as it is usually written: the memory goes by that.

    Whoever sends it need not be looked at for grammar, and nothing has to be cut off it.
    """
    return f"Bearer {raw}"


def _needs_csrf_token(request: Any, verdict: Verdict) -> bool:
    # Each time that a skin asks: what lies between two of them may change the method.
    return not verdict.csrf_held and is_unsafe(request)


def _without_grants(claims: VerifiedClaims, issuer: TrustedIssuer | None) -> VerifiedClaims:
    return claims if issuer is None else VerifiedClaims(claims.of_a_stranger({}))
