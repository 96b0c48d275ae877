"""System checks: what `conf` finds wrong, and settings of the project that do not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import DEFAULT_CACHE_ALIAS, InvalidCacheBackendError, caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from rest_framework.authentication import BaseAuthentication
from rest_framework.settings import api_settings

from jwt_auth.authentication import JWTAuthentication
from jwt_auth.conf import Problem, read_settings
from jwt_auth.middleware import stands_above_authentication_middleware
from jwt_auth.models import LoginSession
from jwt_auth.transports import number_of_proxies

# Who lets one of these in lets everybody in, or everybody who takes such a name.
_NOBODYS_ORIGINS = [
    f"{scheme}://{host}"
    for scheme in ("https", "http")
    for host in ("a.host.that.nobody.has.named.invalid", "nobody-has-named-this.com")
]


def connect() -> None:
    """Register the checks."""
    register(check_settings, Tags.security)
    register(check_settings_for_production, Tags.security, deploy=True)
    register(check_authentication_classes, Tags.security)
    register(check_middleware_order, Tags.security)
    register(check_cors, Tags.security)
    register(check_cookies_of_another_site, Tags.security)
    register(check_number_of_proxies, Tags.security)
    register(check_cache_for_production, Tags.security, deploy=True)
    register(check_routes, Tags.security)
    register(check_migrations, Tags.database)


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report every problem of ``JWT_AUTH``."""
    return [_message(one) for one in read_settings()[1] if not one.deploy]


def check_settings_for_production(**kwargs: Any) -> list[CheckMessage]:
    """Report what is fine on a developer's machine alone."""
    return [_message(one) for one in read_settings()[1] if one.deploy]


def check_authentication_classes(**kwargs: Any) -> list[CheckMessage]:
    """Warn when DRF would answer a missing token with 403 and without a challenge.

    DRF takes the challenge from the first class of the list (RFC 9110 section
    15.5.2 wants one with every 401).
    """
    classes: Sequence[Any] = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    ours = [position for position, one in enumerate(classes) if issubclass(one, JWTAuthentication)]
    if not ours or ours[0] == 0 or _has_challenge(classes[0]):
        return []
    return [
        Warning(
            "JWTAuthentication is not the first of DEFAULT_AUTHENTICATION_CLASSES: a request "
            "without a token is answered 403 and without WWW-Authenticate.",
            hint="Put jwt_auth.authentication.JWTAuthentication first.",
            id="jwt_auth.W002",
        )
    ]


def check_middleware_order(**kwargs: Any) -> list[CheckMessage]:
    """Warn when middlewares between ours and the view would see the session's user.

    `AuthenticationMiddleware` sets its own user, and ours only sets the token's again
    before the view.
    """
    if not stands_above_authentication_middleware():
        return []
    return [
        Warning(
            "JWTAuthenticationMiddleware stands above AuthenticationMiddleware: the middlewares "
            "between them and the view see the session's user, not the token's.",
            hint="Put jwt_auth.middleware.JWTAuthenticationMiddleware below it.",
            id="jwt_auth.W004",
        )
    ]


def check_cors(**kwargs: Any) -> list[CheckMessage]:
    """Warn when django-cors-headers lets every site call with its visitors' credentials."""
    if not getattr(settings, "CORS_ALLOW_CREDENTIALS", False):
        return []
    everybody = (
        getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False)
        or getattr(settings, "CORS_ORIGIN_ALLOW_ALL", False)
        or _match_everybody(getattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", ()))
        or _match_everybody(getattr(settings, "CORS_ORIGIN_REGEX_WHITELIST", ()))
    )
    if not everybody:
        return []
    return [
        Warning(
            "CORS allows all origins, with credentials: any site can read what your views answer "
            "to its visitors' cookies.",
            hint="Name the sites in CORS_ALLOWED_ORIGINS.",
            id="jwt_auth.W007",
        )
    ]


def check_cookies_of_another_site(**kwargs: Any) -> list[CheckMessage]:
    """Warn when browsers would send our cookies from another site, and Django's not."""
    configuration, _ = read_settings()
    cookies = None if configuration is None else configuration.cookies
    if cookies is None or cookies.samesite != "None":
        return []
    # The CSRF token is in a cookie of its own or in the session's.
    name = "SESSION_COOKIE" if settings.CSRF_USE_SESSIONS else "CSRF_COOKIE"
    samesite = str(getattr(settings, f"{name}_SAMESITE")).lower()
    if samesite == "none" and getattr(settings, f"{name}_SECURE"):
        return []
    return [
        Warning(
            f'COOKIES has SAMESITE "None", and browsers do not send {name} from another site: its '
            "requests bring the tokens and not the CSRF token, and are refused.",
            hint=f'Set {name}_SAMESITE = "None" and {name}_SECURE = True.',
            id="jwt_auth.W009",
        )
    ]


def check_number_of_proxies(**kwargs: Any) -> list[CheckMessage]:
    """Warn when DRF's ``NUM_PROXIES`` is no number, as when it is read from the environment."""
    if api_settings.NUM_PROXIES is None or number_of_proxies() is not None:
        return []
    return [
        Warning(
            "NUM_PROXIES of REST_FRAMEWORK is no whole number from 0 on: failed logins are counted "
            "as if it were unset.",
            hint="Write it as in 1, without quotes.",
            id="jwt_auth.W010",
        )
    ]


def check_cache_for_production(**kwargs: Any) -> list[CheckMessage]:
    """Warn when tries are counted in each process by itself, or not at all."""
    configuration, _ = read_settings()
    if configuration is None or not configuration.throttle_rates:
        return []
    try:
        cache = caches[DEFAULT_CACHE_ALIAS]
    except InvalidCacheBackendError:
        # Django's own check says so.
        return []
    # The base class reads and writes in two steps, between which others read as well.
    counts = type(cache).incr is not BaseCache.incr
    if counts and not isinstance(cache, LocMemCache | DummyCache):
        return []
    return [
        Warning(
            "The cache 'default' cannot count for all processes: failed logins are counted in each "
            "by itself, or not exactly, or not at all.",
            hint="Set CACHES to one that all processes share, such as Redis.",
            id="jwt_auth.W006",
        )
    ]


def check_routes(**kwargs: Any) -> list[CheckMessage]:
    """Report sessions in another database than users: no statement joins the two."""
    configuration, _ = read_settings()
    if configuration is None or not configuration.sessions_on:
        return []
    sessions, users = router.db_for_write(LoginSession), router.db_for_write(get_user_model())
    if _location(sessions) == _location(users):
        return []
    return [
        Error(
            f"Login sessions are written to the database {sessions!r}, users to {users!r}: every "
            "login and refresh would be refused or answered 503.",
            hint="Have the router send the app label jwt_auth where the users are. If both are one "
            "database after all, silence this.",
            id="jwt_auth.E019",
        )
    ]


def check_migrations(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn when a migration of ours was not applied: logins would be answered 503.

    Asks the database, and only when Django's checks of databases are asked for.
    """
    configuration, _ = read_settings()
    alias = router.db_for_write(LoginSession)
    if configuration is None or not configuration.sessions_on or alias not in (databases or ()):
        return []
    try:
        are_applied = _are_migrations_applied(connections[alias])
    except (DatabaseError, ImproperlyConfigured):
        # Django's own checks and commands say so.
        return []
    if are_applied:
        return []
    return [
        Warning(
            f"The migrations of jwt_auth have not been applied to the database {alias!r}.",
            hint=f"Run manage.py migrate --database {alias}.",
            id="jwt_auth.W008",
        )
    ]


def _location(alias: str) -> list[Any]:
    # Projects have several aliases for one database, with other options.
    return [connections[alias].settings_dict[name] for name in ("ENGINE", "NAME", "HOST", "PORT")]


def _are_migrations_applied(connection: BaseDatabaseWrapper) -> bool:
    tables = connection.introspection.table_names()
    if MigrationRecorder.Migration._meta.db_table not in tables:
        # The default database is about to be migrated. Another one may have been forgotten.
        is_new = connection.alias == DEFAULT_DB_ALIAS
        return is_new or LoginSession._meta.db_table in tables
    loader = MigrationLoader(connection, load=False)
    loader.load_disk()
    ours = {key for key in loader.disk_migrations if key[0] == LoginSession._meta.app_label}
    applied = MigrationRecorder(connection).applied_migrations()
    return LoginSession._meta.db_table in tables and ours <= applied.keys()


def _match_everybody(patterns: Any) -> bool:
    for pattern in patterns if isinstance(patterns, list | tuple) else ():
        # What is no pattern is for django-cors-headers to say.
        with suppress(re.error, TypeError):
            if any(re.match(pattern, origin) for origin in _NOBODYS_ORIGINS):
                return True
    return False


def _has_challenge(authentication_class: Any) -> bool:
    return authentication_class.authenticate_header is not BaseAuthentication.authenticate_header


def _message(problem: Problem) -> CheckMessage:
    kind = Error if problem.is_error else Warning
    return kind(problem.message, hint=problem.hint or None, id=problem.id)
