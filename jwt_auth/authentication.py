"""The DRF skin: `JWTAuthentication`, and refusals that DRF cannot re-word."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from django.http import HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from jwt_auth.authenticator import OnRefusal, Verdict
from jwt_auth.errors import BARE_CHALLENGE, Rejected, Unavailable
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import VerifiedClaims
from jwt_auth.transports import forget_access_cookie, make_private, record_refusal, vary_on


class Refusal(AuthenticationFailed):
    """A `Rejected` as DRF answers it.

    DRF assigns status and challenge of an `AuthenticationFailed` anew, from the
    first authentication class of the view: the answer would say 403, or nothing of
    the reason. Here both stay what they are.
    """

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(detail=rejected.body, code=rejected.code)
        self._rejected = rejected

    @property
    def status_code(self) -> int:
        """The status of the refusal."""
        return self._rejected.status

    @status_code.setter
    def status_code(self, value: int) -> None:
        """Ignore what DRF assigns."""

    @property
    def auth_header(self) -> str:
        """The challenge of the refusal (RFC 6750 section 3)."""
        return self._rejected.challenge

    @auth_header.setter
    def auth_header(self, value: str) -> None:
        """Ignore what DRF assigns."""


class ServiceUnavailable(APIException):
    """An `Unavailable` as DRF answers it; ``wait`` becomes ``Retry-After``."""

    status_code = Unavailable.status

    def __init__(self, unavailable: Unavailable) -> None:
        super().__init__(detail=unavailable.body, code=unavailable.code)
        self.wait = unavailable.retry_after


class JWTAuthentication(BaseAuthentication):
    """Authenticates requests by ``Authorization: Bearer <access token>``.

    ``request.user`` is the user, loaded at the first touch that needs the row, and
    ``request.auth`` the verified claims. Without a bearer token the next class of
    the view has its turn; a refused one is never passed on.

    Set `LOAD_USER` on a subclass to differ from ``JWT_AUTH["LOAD_USER"]``.
    """

    LOAD_USER: str | None = None
    # Whether a token in a cookie counts, where COOKIES are on.
    BY_COOKIE = True

    def authenticate(self, request: Request) -> tuple[Any, VerifiedClaims | None] | None:
        """Return (user, claims), or `None` if the request has no bearer token.

        Raises:
            Refusal: the token was refused; 401, or 400 for a malformed header.
            ServiceUnavailable: it could not be judged; 503.
        """
        runtime = current()
        authenticator = runtime.authenticator
        try:
            django_request, view = request._request, request.parser_context.get("view")
        except AttributeError:
            # Called by hand, with a request of Django's.
            django_request, view = request, None
        # Kept on Django's request, which the middleware and decorators see as well.
        verdict = authenticator.judge(
            django_request, self.LOAD_USER or runtime.settings.load_user, self.BY_COOKIE
        )
        looked_at = authenticator.headers if self.BY_COOKIE else "Authorization"
        if verdict is None:
            _add_header(view, "Vary", looked_at)
            return None
        if verdict.refusal is not None:
            _add_header(view, "Vary", looked_at)
            _forget_dead_cookie(request, verdict)
            raise translated(verdict.refusal, request)
        if _is_running(view):
            _accompany(request, view, verdict, looked_at)
        return verdict.user, verdict.claims

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for a request without credentials."""
        return BARE_CHALLENGE


def _is_running(view: Any) -> bool:
    """Tell whether *view* is one of DRF's that has not answered yet.

    Without a view, `authenticate()` was called by hand; with an answer, a renderer is the first
    to ask who the user is. Nobody would answer what is raised then.
    """
    return hasattr(view, "finalize_response") and not hasattr(view, "response")


def _accompany(request: Request, view: Any, verdict: Verdict, looked_at: str) -> None:
    """Be there when the handler of *view* has come to an end; *looked_at* is for ``Vary``.

    Late refusals are raised while the handler runs, and no longer: a project's exception
    handler, a renderer or an outer middleware that looks at the user has nobody to raise to,
    unless this view was called by another one.
    """
    before = verdict.on_late_refusal
    verdict.on_late_refusal = partial(_raise_late, request, verdict)
    # These two end what DRF answers exceptions of; a view object serves one request.
    view.handle_exception = partial(_handle, verdict, before, view.handle_exception)
    view.finalize_response = partial(
        _finalize, view, verdict, before, looked_at, view.finalize_response
    )


def _raise_late(request: Request, verdict: Verdict, error: Rejected | Unavailable) -> NoReturn:
    _forget_dead_cookie(request, verdict)
    raise translated(error, request) from None


def _handle(
    verdict: Verdict,
    before: OnRefusal,
    handle_exception: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    verdict.on_late_refusal = before
    return handle_exception(*args, **kwargs)


def _finalize(
    view: Any,
    verdict: Verdict,
    before: OnRefusal,
    looked_at: str,
    finalize: Callable[..., Any],
    request: Request,
    response: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    verdict.on_late_refusal = before
    if verdict.refusal is not None and not getattr(response, "exception", False):
        # The handler has caught what it was refused by.
        response = view.handle_exception(translated(verdict.refusal, request))
    headers = view.headers
    varies = "Vary" in headers
    if varies:
        # DRF adds it to the answer's own, which takes it a while: once is enough.
        headers["Vary"] += f", {looked_at}"
    response = finalize(request, response, *args, **kwargs)
    if not varies:
        vary_on(response, looked_at)
    if verdict.from_cookie:
        make_private(response)
    return response


def _forget_dead_cookie(request: Request, verdict: Verdict) -> None:
    """Have whatever the view is going to answer delete an access cookie of no use."""
    if not verdict.has_dead_cookie:
        return
    # A view has no response yet, but headers for it.
    deletion = HttpResponse()
    forget_access_cookie(deletion, current().settings.cookies)
    for cookie in deletion.cookies.values():
        _add_header(_view(request), "Set-Cookie", cookie.OutputString())


def translated(error: Rejected | Unavailable, request: Request) -> APIException:
    """Return *error* as an exception that DRF answers as it should be."""
    record_refusal(request, error)
    # RFC 9111: a shared cache must not keep a refusal.
    _add_header(_view(request), "Cache-Control", "no-store")
    if isinstance(error, Unavailable):
        return ServiceUnavailable(error)
    return Refusal(error)


def _view(request: Request) -> Any:
    context = getattr(request, "parser_context", None)
    return context.get("view") if context else None


def _add_header(view: Any, name: str, value: str) -> None:
    """Add a header to whatever *view* is going to answer."""
    headers = getattr(view, "headers", None)
    if headers is not None:
        present = headers.get(name)
        headers[name] = value if present is None or name != "Vary" else f"{present}, {value}"
