"""System checks: what `conf` finds wrong, and settings of the project that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from rest_framework.authentication import BaseAuthentication
from rest_framework.settings import api_settings

from jwt_auth.authentication import JWTAuthentication
from jwt_auth.conf import Problem, read_settings
from jwt_auth.middleware import stands_above_authentication_middleware


def connect() -> None:
    """Register the checks."""
    register(check_settings, Tags.security)
    register(check_settings_for_production, Tags.security, deploy=True)
    register(check_authentication_classes, Tags.security)
    register(check_middleware_order, Tags.security)


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


def _has_challenge(authentication_class: Any) -> bool:
    return authentication_class.authenticate_header is not BaseAuthentication.authenticate_header


def _message(problem: Problem) -> CheckMessage:
    kind = Error if problem.is_error else Warning
    return kind(problem.message, hint=problem.hint or None, id=problem.id)
