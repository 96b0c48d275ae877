"""The Django skin: `JWTAuthenticationMiddleware`, sync and async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.module_loading import import_string
from rest_framework.views import APIView

from jwt_auth.authenticator import OFF_STAGE, Verdict, kept
from jwt_auth.errors import Rejected, Unavailable
from jwt_auth.runtime import current
from jwt_auth.transports import (
    forget_access_cookie,
    make_private,
    record_refusal,
    vary_on,
    view_of,
    waive_csrf,
)

Response = TypeVar("Response", bound=HttpResponseBase)

# What `@jwt_exempt` leaves on a view.
EXEMPT = "jwt_exempt"


class LateRefusal(PermissionDenied):
    """A lazy user was refused while a Django view ran.

    A `PermissionDenied`, so that whoever is between the view and the skin that
    answers takes it for a refusal and not for a crash.
    """


class OnStage:
    """In a Django view."""

    def answer_late(self, refusal: Rejected | Unavailable) -> NoReturn:
        """Leave the view: the skin around it answers *refusal*."""
        raise LateRefusal from None


ON_STAGE = OnStage()


def refused(
    request: HttpRequest, refusal: Rejected | Unavailable, verdict: Verdict | None = None
) -> JsonResponse:
    """Return the answer that says *refusal*, which may be that of *verdict*."""
    record_refusal(request, refusal)
    response = JsonResponse(refusal.body, status=refusal.status, headers=refusal.headers)
    if verdict is not None and verdict.has_dead_cookie:
        forget_access_cookie(response, current().settings.cookies)
    return varied(response, verdict)


def varied(response: Response, verdict: Verdict | None = None) -> Response:
    """Tell caches what *response* depends on (RFC 9110 section 12.5.5, RFC 9111 section 3.5)."""
    vary_on(response, current().authenticator.headers)
    if verdict is not None and verdict.from_cookie:
        make_private(response)
    return response


def sign_in(request: HttpRequest, verdict: Verdict) -> None:
    """Set what *verdict* says on *request*: user and claims, or nobody."""
    who: Any = request
    user = verdict.user

    async def auser() -> Any:
        # Whoever sets another user, as login() does, means both.
        return await verdict.auser() if who.user is user else who.user

    who.user, who.auser, who.auth = user, auser, verdict.claims


class JWTAuthenticationMiddleware:
    """Authenticates requests to Django views by ``Authorization: Bearer <access token>``.

    Sets ``request.user``, ``request.auser()`` and ``request.auth``. A verified token's
    user replaces the session's, and no CSRF token is asked: no browser sends the
    header by itself. (For a token in a cookie it is.) A refused token makes the user
    anonymous, and the request is answered before the view, unless the view answers for
    itself: one marked ``@jwt_exempt`` or a DRF view, whose authentication classes take
    the verdict from here. Without a bearer token the request goes on as it came.

    Stands below `AuthenticationMiddleware`, if there is one.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_overwritten = stands_above_authentication_middleware()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
            # Django would run a plain function in a thread.
            self.process_view = _as_coroutine(self.process_view)  # type: ignore[method-assign]

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        runtime = current()
        verdict = runtime.authenticator.judge(request, runtime.settings.load_user)
        self._enter(request, verdict)
        return self._leave(request, verdict, self.get_response(request))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        runtime = current()
        verdict = await runtime.authenticator.ajudge(request, runtime.settings.load_user)
        self._enter(request, verdict)
        return self._leave(request, verdict, await self.get_response(request))

    def _enter(self, request: Any, verdict: Verdict | None) -> None:
        if verdict is None:
            request.auth = None
            if not hasattr(request, "user"):
                request.user, request.auser = AnonymousUser(), _nobody
            return
        sign_in(request, verdict)
        if verdict.refusal is None and not verdict.from_cookie:
            # Now, because CsrfViewMiddleware may stand above and judges before us.
            waive_csrf(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Refuse before the view, unless it answers for itself."""
        verdict = kept(request)
        if verdict is None:
            return None
        if self._is_overwritten or verdict.refusal is not None:
            sign_in(request, verdict)
        if _answers_for_itself(request, view):
            return None
        if verdict.refusal is not None:
            return refused(request, verdict.refusal, verdict)
        verdict.stage = ON_STAGE
        return None

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answer a late refusal that left the view, alone or among other errors."""
        verdict, view = kept(request), view_of(request)
        if verdict is None or view is None or _answers_for_itself(request, view):
            return None
        # Whoever answers an error, and looks at the user, has nobody to raise to.
        verdict.stage = OFF_STAGE
        return None if verdict.refusal is None else refused(request, verdict.refusal, verdict)

    def _leave(
        self, request: HttpRequest, verdict: Verdict | None, response: HttpResponseBase
    ) -> HttpResponseBase:
        if verdict is None:
            return varied(response)
        verdict.stage = OFF_STAGE
        if verdict.refusal is None:
            return varied(response, verdict)
        view = view_of(request)
        if view is None or _answers_for_itself(request, view):
            return varied(response, verdict)
        # Said here as well: a middleware above may have been asked before us (a CSRF
        # failure, a redirect to a login page), one below may have answered from a cache,
        # and a lazy user may have been refused in the view or in a middleware around it.
        return refused(request, verdict.refusal, verdict)


async def _nobody() -> AnonymousUser:
    return AnonymousUser()


def _as_coroutine(process_view: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(process_view):
        # That of a subclass.
        return process_view

    async def aprocess_view(*args: Any) -> HttpResponseBase | None:
        response: HttpResponseBase | None = process_view(*args)
        return response

    return aprocess_view


def _positions(middleware: type) -> list[int]:
    found = []
    for position, path in enumerate(settings.MIDDLEWARE):
        with suppress(ImportError):
            one = import_string(path)
            if isinstance(one, type) and issubclass(one, middleware):
                found.append(position)
    return found


def stands_above_authentication_middleware() -> bool:
    """Tell whether Django's middleware would set its own user after ours."""
    ours, djangos = _positions(JWTAuthenticationMiddleware), _positions(AuthenticationMiddleware)
    return bool(ours and djangos) and ours[0] < djangos[-1]


def _answers_for_itself(request: HttpRequest, view: Callable[..., Any]) -> bool:
    # A preflight has no credential to be judged by.
    if request.method == "OPTIONS" or getattr(view, EXEMPT, False):
        return True
    cls = getattr(view, "cls", None)
    return isinstance(cls, type) and issubclass(cls, APIView)
