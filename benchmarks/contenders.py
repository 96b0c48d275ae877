"""Who is compared: what each of them needs in the settings, and what its client sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


def _ours(user: Any) -> dict[str, str]:
    from jwt_auth import sessions

    return {"HTTP_AUTHORIZATION": f"Bearer {sessions.start(user).access_token}"}


def _simplejwt(user: Any) -> dict[str, str]:
    from rest_framework_simplejwt.tokens import AccessToken

    return {"HTTP_AUTHORIZATION": f"Bearer {AccessToken.for_user(user)}"}


def _knox(user: Any) -> dict[str, str]:
    from knox.models import AuthToken

    return {"HTTP_AUTHORIZATION": f"Token {AuthToken.objects.create(user)[1]}"}


def _drf_token(user: Any) -> dict[str, str]:
    from rest_framework.authtoken.models import Token

    return {"HTTP_AUTHORIZATION": f"Token {Token.objects.get_or_create(user=user)[0].key}"}


def _session(user: Any) -> dict[str, str]:
    from django.test import Client

    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return {"HTTP_COOKIE": f"sessionid={client.cookies['sessionid'].value}"}


def _allauth(user: Any) -> dict[str, str]:
    from allauth.headless.tokens.strategies.jwt.internal import create_access_token
    from django.contrib.sessions.backends.db import SessionStore

    store = SessionStore()
    store.create()
    return {"HTTP_AUTHORIZATION": f"Bearer {create_access_token(user, store, {})}"}


@dataclass(frozen=True)
class Contender:
    """One way to know who calls a DRF view."""

    name: str
    authentication: str | None
    credential: Callable[[Any], dict[str, str]]
    middleware: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)


# The floor: DRF asks nobody. The request is that of the others, with a header to be read.
FLOOR = Contender("AllowAny", None, _ours)

# It has no other way to be installed than with its middleware.
ALLAUTH = Contender(
    "allauth headless",
    "allauth.headless.contrib.rest_framework.authentication.JWTTokenAuthentication",
    _allauth,
    ["allauth.account.middleware.AccountMiddleware"],
)

# For views that are not DRF's.
BEHIND = Contender(
    "jwt_auth, middleware", None, _ours, ["jwt_auth.middleware.JWTAuthenticationMiddleware"]
)

ALL = [
    FLOOR,
    Contender("jwt_auth", "jwt_auth.authentication.JWTAuthentication", _ours),
    Contender(
        "simplejwt, stateless",
        "rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication",
        _simplejwt,
    ),
    Contender("simplejwt", "rest_framework_simplejwt.authentication.JWTAuthentication", _simplejwt),
    ALLAUTH,
    Contender(
        "DRF TokenAuthentication",
        "rest_framework.authentication.TokenAuthentication",
        _drf_token,
    ),
    Contender("knox", "knox.auth.TokenAuthentication", _knox),
    Contender(
        "sessions, db",
        "rest_framework.authentication.SessionAuthentication",
        _session,
        SESSIONS,
        {"SESSION_ENGINE": "django.contrib.sessions.backends.db"},
    ),
    Contender(
        "sessions, cached_db",
        "rest_framework.authentication.SessionAuthentication",
        _session,
        SESSIONS,
        {"SESSION_ENGINE": "django.contrib.sessions.backends.cached_db"},
    ),
]
