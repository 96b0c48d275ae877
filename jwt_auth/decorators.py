"""The Django skin for single views, sync and async, with or without the middleware.

A refusal is answered as everywhere, with its challenge and never with a redirect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from rest_framework.views import set_rollback

from jwt_auth.authenticator import Verdict
from jwt_auth.errors import (
    InsufficientScope,
    InsufficientUserAuthentication,
    NotAuthenticated,
    Rejected,
    Unavailable,
)
from jwt_auth.middleware import EXEMPT, ON_STAGE, LateRefusal, refused, sign_in, varied
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import VerifiedClaims
from jwt_auth.tokens.policy import checked_names, has_recent_login, has_role, has_scopes

View = TypeVar("View", bound=Callable[..., Any])
# What a view demands of verified claims: returns why they do not do, or `None`.
Demand = Callable[[VerifiedClaims], Rejected | None]


def jwt_required(view: View) -> View:
    """Let in requests with a verified access token, and refuse all others.

    In the view, ``request.user``, ``request.auser()`` and ``request.auth`` are those of
    the token. The view is left alone by Django's CSRF check and by
    `LoginRequiredMiddleware`: no browser sends a bearer token by itself, and nobody
    comes in here without one. For a token in a cookie (``COOKIES``) the check is made here.
    """
    return _guarded(view, lambda claims: None)


def role_required(*roles: str) -> Callable[[View], View]:
    """Let in requests whose access token has at least one of *roles*; see jwt_required()."""
    checked_names("role", roles)

    def demand(claims: VerifiedClaims) -> Rejected | None:
        return None if has_role(claims, roles) else InsufficientScope("no such role")

    return lambda view: _guarded(view, demand)


def scope_required(*scopes: str) -> Callable[[View], View]:
    """Let in requests whose access token has every one of *scopes*; see jwt_required()."""
    checked_names("scope", scopes)

    def demand(claims: VerifiedClaims) -> Rejected | None:
        return None if has_scopes(claims, scopes) else InsufficientScope("a scope is missing")

    return lambda view: _guarded(view, demand)


def recent_login_required(*, minutes: float) -> Callable[[View], View]:
    """Let in requests whose login is at most *minutes* ago (RFC 9470); see jwt_required().

    A refresh does not make a login recent.
    """
    max_age = int(minutes * 60)

    def demand(claims: VerifiedClaims) -> Rejected | None:
        recent = has_recent_login(claims, max_age, current().clock())
        return None if recent else InsufficientUserAuthentication(max_age)

    return lambda view: _guarded(view, demand)


def jwt_exempt(view: View) -> View:
    """Have `JWTAuthenticationMiddleware` pass on requests to *view* whatever their token.

    For views with bearer tokens of their own, such as webhooks. The user is anonymous
    unless the token is one of ours.
    """
    exempt: Any

    if iscoroutinefunction(view):

        async def exempt(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return await view(request, *args, **kwargs)

    else:

        def exempt(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return view(request, *args, **kwargs)

    exempt = wraps(view)(exempt)
    setattr(exempt, EXEMPT, True)
    return exempt  # type: ignore[no-any-return]


def _guarded(view: View, demand: Demand) -> View:
    async def on_the_loop(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        runtime = current()
        verdict = await runtime.authenticator.ajudge(request, runtime.settings.load_user)
        if verdict is None:
            return refused(request, NotAuthenticated("no bearer token"))
        if (refusal := _refusal(request, verdict, demand)) is not None:
            return refused(request, refusal, verdict)
        response = None
        with _on_stage(verdict):
            response = await view(request, *args, **kwargs)
        return _answer(request, verdict, response)

    def in_a_thread(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        runtime = current()
        verdict = runtime.authenticator.judge(request, runtime.settings.load_user)
        if verdict is None:
            return refused(request, NotAuthenticated("no bearer token"))
        if (refusal := _refusal(request, verdict, demand)) is not None:
            return refused(request, refusal, verdict)
        response = None
        with _on_stage(verdict):
            response = view(request, *args, **kwargs)
        if verdict.refusal is not None:
            # What the view has done until then is undone, as after an exception.
            set_rollback()
        return _answer(request, verdict, response)

    guarded: Any = wraps(view)(on_the_loop if _is_async(view) else in_a_thread)
    # What Django's own csrf_exempt and login_not_required leave on a view.
    guarded.csrf_exempt, guarded.login_required = True, False
    return guarded  # type: ignore[no-any-return]


def _refusal(
    request: HttpRequest, verdict: Verdict, demand: Demand
) -> Rejected | Unavailable | None:
    sign_in(request, verdict)
    return verdict.refusal if verdict.claims is None else demand(verdict.claims)


def _answer(request: HttpRequest, verdict: Verdict, response: Any) -> Any:
    if verdict.refusal is not None:
        return refused(request, verdict.refusal, verdict)
    # A view that returns nothing is told so by Django.
    return response if response is None else varied(response, verdict)


def _is_async(view: Any) -> bool:
    # The `dispatch` of a class is no coroutine function even if its handlers are; but
    # what method_decorator() hands over is a partial of it, bound to a view object.
    view_object = getattr(getattr(view, "func", None), "__self__", None)
    return iscoroutinefunction(view) or bool(getattr(view_object, "view_is_async", False))


@contextmanager
def _on_stage(verdict: Verdict) -> Iterator[None]:
    """Have late refusals raised in here, and leave by them: the verdict has them."""
    before = verdict.stage
    verdict.stage = ON_STAGE
    try:
        yield
    except LateRefusal:
        pass
    except BaseExceptionGroup as group:
        # Out of a task group of the view.
        others = group.split(LateRefusal)[1]
        if others is not None:
            raise others from None
    finally:
        verdict.stage = before
