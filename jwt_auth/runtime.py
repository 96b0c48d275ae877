"""The composition root: what the settings in force are made into. The only module state."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.signals import setting_changed
from django.utils import timezone

from jwt_auth.authenticator import Authenticator, TrustedIssuer
from jwt_auth.conf import IssuerSettings, Settings, derive_keys, load_settings
from jwt_auth.logs import RecordLimit
from jwt_auth.models import SessionRows, has_database
from jwt_auth.publication import PublishedList
from jwt_auth.revocation import Lookups, RevocationList, Revocations
from jwt_auth.tokens.access import AccessTokens
from jwt_auth.tokens.memory import TokenMemory
from jwt_auth.tokens.policy import LIFETIME_SLACK, Policy
from jwt_auth.tokens.refresh import RefreshTokens
from jwt_auth.tokens.remote import RemoteIssuer, RemoteKeys, RemoteRevocations
from jwt_auth.tokens.revoked import Publisher
from jwt_auth.users import Accounts, PasswordMarks, Strangers

# Whatever of Django's settings is looked at in here or in conf.
_WATCHED = frozenset(
    {
        "AUTH_USER_MODEL",
        "DATABASES",
        "DATABASE_ROUTERS",
        "DEBUG",
        "JWT_AUTH",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "USE_TZ",
    }
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The app's parts, wired for one state of the settings."""

    settings: Settings
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    accounts: Accounts
    session_rows: SessionRows
    password_marks: PasswordMarks
    authenticator: Authenticator
    published_list: PublishedList | None
    revocation_window: timedelta
    records: RecordLimit
    clock: Callable[[], datetime]


_current: Runtime | None = None
_building = threading.RLock()


# A plain function, and no more than this: every request asks.
def current() -> Runtime:
    """Return the parts for the settings in force, made at the first call.

    Raises:
        ImproperlyConfigured: ``JWT_AUTH`` has an error.
    """
    runtime = _current
    return _built_once() if runtime is None else runtime


def _built_once() -> Runtime:
    """Build the parts: one thread does, however many ask first."""
    global _current
    with _building:
        if _current is None:
            _current = _build()
        return _current


def forget() -> None:
    """Forget the parts. A child that was forked has the lock in any state: it gets another."""
    global _current, _building
    _building = threading.RLock()
    _current = None


def _build() -> Runtime:
    settings = load_settings()
    access_tokens = AccessTokens(
        ring=settings.ring,
        policy=_policy(settings),
        lifetime=settings.access_lifetime,
        audience=settings.audience,
        encryption=settings.encryption,
    )
    revocations = _revocations(settings)
    records = RecordLimit()
    access_cookie = None if settings.cookies is None else settings.cookies.access
    accounts = Accounts(
        user_id_field=settings.user_id_field,
        sessions_on=settings.sessions_on,
        cache_size=settings.token_cache_size,
    )
    return Runtime(
        settings=settings,
        access_tokens=access_tokens,
        refresh_tokens=RefreshTokens(derive_keys("refresh_token")),
        accounts=accounts,
        session_rows=SessionRows(get_user_model()),
        password_marks=PasswordMarks(derive_keys("password_mark")),
        authenticator=Authenticator(
            tokens=access_tokens,
            accounts=accounts,
            revocations=revocations,
            accepts_own=settings.accepts_own,
            access_cookie=access_cookie,
            headers="Authorization" if access_cookie is None else "Authorization, Cookie",
            issuers={
                issuer: _trusted_issuer(one, settings, records)
                for issuer, one in settings.trusted_issuers.items()
            },
            memory=TokenMemory(settings.token_cache_size),
            clock=_now,
        ),
        published_list=_published_list(settings, revocations),
        revocation_window=_revocation_window(settings),
        records=records,
        clock=timezone.now,
    )


def _now() -> float:
    # Looked up each time: tests of a project may put another function there.
    return time.time()


def _revocations(settings: Settings) -> Revocations | None:
    interval = settings.revocation_interval
    if interval is None or not settings.sessions_on or not has_database():
        return None
    if not interval:
        return Lookups()
    return RevocationList(
        interval=interval,
        max_age=settings.revocation_max_age,
        window=_revocation_window(settings),
        clock=_now,
    )


def _published_list(settings: Settings, revocations: Revocations | None) -> PublishedList | None:
    key = settings.ring.signing
    if not isinstance(revocations, RevocationList) or key.public_jwk is None:
        return None
    window = _revocation_window(settings)
    publisher = Publisher(
        key,
        settings.issuer,
        max_age=settings.revocation_max_age.total_seconds(),
        window=window.total_seconds(),
    )
    return PublishedList(revocations, publisher, window)


def _trusted_issuer(one: IssuerSettings, settings: Settings, records: RecordLimit) -> TrustedIssuer:
    clock, leeway = _now, settings.leeway.total_seconds()
    keys = RemoteKeys(one.jwks_url, one.algorithms, clock)
    revocations = None
    if one.revoked_url is not None:
        revocations = RemoteRevocations(one.revoked_url, one.issuer, keys, clock, leeway)
    tokens = RemoteIssuer(
        policy=Policy(issuer=one.issuer, audiences=one.audiences, leeway=leeway),
        types=one.types,
        algorithms=one.algorithms,
        keys=keys,
        revocations=revocations,
        clock=clock,
    )
    among_others = settings.accepts_own or len(settings.trusted_issuers) > 1
    return TrustedIssuer(tokens, Strangers(one.user, among_others=among_others, records=records))


def _revocation_window(settings: Settings) -> timedelta:
    """How long after the end of its session an access token may still live.

    Its life as the policy bounds it, and the grace: while the end waits for its
    commit, a session that was just rotated still hands out access tokens, without an
    UPDATE that would wait as well.
    """
    slack = timedelta(seconds=LIFETIME_SLACK)
    return settings.access_lifetime + settings.leeway + slack + settings.refresh_grace


def _policy(settings: Settings) -> Policy:
    demanded = {"iat", "jti"}
    if settings.sessions_on:
        demanded.add("sid")
    audience = settings.audience
    if audience is None:
        audiences: frozenset[str] = frozenset()
    else:
        audiences = frozenset([audience] if isinstance(audience, str) else audience)
    return Policy(
        issuer=settings.issuer,
        audiences=audiences,
        demanded=frozenset(demanded),
        longest_life=settings.access_lifetime.total_seconds(),
        leeway=settings.leeway.total_seconds(),
    )


def _forget_if_watched(*, setting: str, **kwargs: Any) -> None:
    if setting in _WATCHED:
        forget()


setting_changed.connect(_forget_if_watched, dispatch_uid="jwt_auth.runtime")
if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads, and may have its locks in any state.
    os.register_at_fork(after_in_child=forget)
