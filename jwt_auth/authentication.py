"""The DRF skin: `JWTAuthentication`, and refusals that DRF cannot re-word."""

from __future__ import annotations

import functools
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from jwt_auth.authenticator import Stage, Verdict
from jwt_auth.errors import BARE_CHALLENGE, Rejected, Unavailable
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import VerifiedClaims
from jwt_auth.transports import forget_access_cookie, make_private, record_refusal


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
            django_request = request._request
            view: Any = request.parser_context.get("view")
        except AttributeError:
            # Called by hand, with a request of Django's.
            django_request, view = request, None
        # Kept on Django's request, which the middleware and decorators see as well.
        verdict = authenticator.judge(
            django_request, self.LOAD_USER or runtime.settings.load_user, self.BY_COOKIE
        )
        headers: Any = getattr(view, "headers", None)
        if headers is not None:
            # DRF adds these to whatever the view answers. What _add_header() does, with one
            # call less in each request.
            if headers is getattr(type(view), "default_response_headers", None):
                # The class has them for all its requests.
                headers = view.headers = view.headers.copy()
            names = authenticator.headers if self.BY_COOKIE else "Authorization"
            present = headers.get("Vary")
            headers["Vary"] = names if present is None else f"{present}, {names}"
        elif view is not None and _is_initializing(view, django_request):
            _authenticate_again(self, view)
        if verdict is None:
            return None
        if verdict.refusal is not None:
            if _answer_elsewhere(request, view, verdict):
                return AnonymousUser(), None
            _delete_dead_cookie(view, verdict)
            raise translated(verdict.refusal, request)
        if view is not None:
            _Handling.begin(request, view, verdict)
        return verdict.user, verdict.claims

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for a request without credentials."""
        return BARE_CHALLENGE


class _Handling:
    """A handler of DRF's at work: late refusals are raised while it runs, and no longer.

    A project's exception handler, a renderer or an outer middleware that looks at the user has
    nobody to raise to, unless this view was called by another one. DRF says nowhere that a
    handler has come to an end, so its methods are replaced on the view object, which serves one
    request. In most requests only what is said here in `begin()` is done.
    """

    __slots__ = ("before", "request", "verdict", "view")

    request: Request
    view: Any
    verdict: Verdict
    before: Stage

    @classmethod
    def begin(cls, request: Request, view: Any, verdict: Verdict) -> None:
        """Be there until the handler of *view* has come to an end."""
        kind: Any = type(view)
        answers_itself = _answers_itself(kind)
        if answers_itself is None:
            return
        before: Any = verdict.stage
        while type(before) is cls:
            if _has_answered(before.view):
                # Of another view, that was called before this one and has ended.
                before = before.before
            elif before.view is view:
                # Two classes of one view have asked.
                return
            else:
                break
        handling = cls()
        handling.request, handling.view = request, view
        handling.verdict, handling.before = verdict, before
        verdict.stage = view.handle_exception = handling
        if answers_itself or verdict.from_cookie:
            # A project's own may look at the user.
            view.finalize_response = handling.finalize_response

    def answer_late(self, refusal: Rejected | Unavailable) -> AnonymousUser:
        """See Stage."""
        # The handler may catch what is raised, and so may that of a view which called this one.
        handling: Any = self
        while type(handling) is _Handling:
            handling.view.finalize_response = handling.finalize_response
            handling = handling.before
        if _has_answered(self.view):
            return self.before.answer_late(refusal)
        if _is_initializing(self.view, self.request._request):
            return AnonymousUser()
        raise translated(refusal, self.request) from None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for ``handle_exception()`` of the view."""
        self.verdict.stage = self.before
        return type(self.view).handle_exception(self.view, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for that of the view."""
        view, verdict = self.view, self.verdict
        verdict.stage = self.before
        if verdict.refusal is not None and not getattr(response, "exception", False):
            # Of a view that was called by this one, or while this one had an answer already.
            response = view.handle_exception(translated(verdict.refusal, request))
        response = type(view).finalize_response(view, request, response, *args, **kwargs)
        if verdict.from_cookie:
            make_private(response)
        if verdict.has_dead_cookie:
            forget_access_cookie(response, current().settings.cookies)
        return response


@functools.lru_cache(1024)
def _answers_itself(view: type) -> bool | None:
    """Tell whether something of the project runs when a *view* makes a response of an answer.

    `None`: it is no view of DRF's.
    """
    # Not at the top: that module may be the one that imports this.
    from rest_framework.views import APIView

    if not hasattr(view, "handle_exception"):
        return None
    steps = ("finalize_response", "get_renderer_context", "perform_content_negotiation")
    return any(getattr(view, name, None) is not getattr(APIView, name) for name in steps)


def _has_answered(view: Any) -> bool:
    # What `dispatch()` leaves on a view at its end; a class may have something of that name.
    return isinstance(vars(view).get("response"), HttpResponseBase)


def _is_initializing(view: Any, django_request: Any) -> bool:
    """Tell whether *view* is in its `initialize_request()`, whose exceptions DRF answers by 500."""
    # Afterwards the view has DRF's request by that name, and headers.
    return getattr(view, "request", None) is django_request


def _authenticate_again(authentication: JWTAuthentication, view: Any) -> None:
    """Have *authentication* run once more at the first step of *view* that may be refused."""
    initial = view.initial

    def authenticate_first(request: Request, *args: Any, **kwargs: Any) -> None:
        authentication.authenticate(request)
        initial(request, *args, **kwargs)

    view.initial = authenticate_first


def _answer_elsewhere(request: Request, view: Any, verdict: Verdict) -> bool:
    """Have the refusal in *verdict* answered where DRF answers no exceptions. Return whether it is.

    DRF answers them between `initialize_request()` and `finalize_response()`. A renderer runs
    later, so its response is replaced when it is complete.
    """
    if _is_initializing(view, getattr(request, "_request", request)):
        return True
    response: Any = getattr(view, "response", None)
    # A view may call something of its own by that name.
    context = getattr(response, "renderer_context", None) or {}
    if view is None or context.get("view") is not view:
        return False
    if not response.is_rendered:
        response.add_post_render_callback(lambda _: _late_answer(request, view, verdict))
    return True


def _late_answer(request: Request, view: Any, verdict: Verdict) -> Any:
    """Return what *view* answers to the refusal in *verdict*, rendered."""
    assert verdict.refusal is not None  # noqa: S101
    _delete_dead_cookie(view, verdict)
    response = view.handle_exception(translated(verdict.refusal, request))
    response = view.finalize_response(request, response, *view.args, **view.kwargs)
    return response.render()


def _delete_dead_cookie(view: Any, verdict: Verdict) -> None:
    """Have whatever *view* is going to answer delete an access cookie of no use."""
    if verdict.has_dead_cookie and hasattr(view, "finalize_response"):
        finalize_response = view.finalize_response

        def finalize_and_delete(*args: Any, **kwargs: Any) -> Any:
            response = finalize_response(*args, **kwargs)
            forget_access_cookie(response, current().settings.cookies)
            return response

        view.finalize_response = finalize_and_delete


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
    headers: Any = getattr(view, "headers", None)
    if headers is not None:
        if headers is getattr(type(view), "default_response_headers", None):
            # The class has them for all its requests.
            headers = view.headers = view.headers.copy()
        headers[name] = value
