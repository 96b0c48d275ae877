"""The HTTP skin for browsers: the same calls, with tokens in cookies that no script reads.

The refresh token is in a cookie with a path of its own and never in a body. Whatever is
done by a cookie needs Django's CSRF token as well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.http import Http404
from django.middleware.csrf import get_token, rotate_token
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from jwt_auth import errors, sessions
from jwt_auth.conf import CookieSettings
from jwt_auth.endpoints import Endpoint, OwnAuthentication, SessionEndpoint, refresh_refused
from jwt_auth.runtime import current
from jwt_auth.throttling import count_refresh
from jwt_auth.transports import (
    bearer_token,
    cookie_tokens,
    cookie_values,
    csrf_token,
    demand_csrf_token,
    demand_own_site,
    forget_access_cookie,
    forget_cookie,
    forget_other_cookies,
    give_csrf_token,
    is_unsafe,
    set_cookie,
)
from jwt_auth.views import LoginView, LogoutView, SessionDetailView, SessionListView

logger = logging.getLogger("jwt_auth")


class _BrowserEndpoint(Endpoint):
    """A view that is not there unless ``COOKIES`` are on, nor for other sites to post to."""

    # The cookies of one name that a request brings if no earlier setting has left one.
    expected_cookies = 1

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if current().settings.cookies is None:
            raise Http404
        if is_unsafe(request._request):
            # Without a cookie too: a visitor of another site would be signed in as
            # somebody else, or signed out by an answer that deletes cookies.
            demand_own_site(request._request)
        super().initial(request, *args, **kwargs)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        give_csrf_token(request._request, response)
        return response

    @property
    def cookies(self) -> CookieSettings:
        """The names and attributes of the cookies."""
        cookies = current().settings.cookies
        assert cookies is not None  # noqa: S101
        return cookies

    @property
    def cookie_path(self) -> str:
        """Where the refresh cookie is sent: to these views and nowhere else."""
        match = self.request._request.resolver_match
        assert match is not None  # noqa: S101
        return reverse(f"{match.namespace}:csrf").removesuffix("csrf/")

    def handed_out(self, pair: sessions.TokenPair, data: Mapping[str, Any]) -> Response:
        """Answer with the body *data*, less the tokens that go into cookies.

        Raises:
            CookieTooLong: one of them does not fit.
        """
        cookies = self.cookies
        body = {name: value for name, value in data.items() if name != "refresh_token"}
        if cookies.access is not None:
            body.pop("access_token", None)
        body["csrf_token"] = get_token(self.request._request)
        response = Response(body)
        if cookies.access is not None:
            self.forget_left_over_cookies(response, cookies.access, "/")
            self.set_access_cookie(response, cookies.access, pair)
        self.forget_left_over_cookies(response, cookies.refresh, self.cookie_path)
        self.set_refresh_cookie(response, pair)
        return response

    def forget_left_over_cookies(self, response: Response, name: str, path: str) -> None:
        """Have the browser forget the cookies *name* of earlier settings, if it may have some."""
        if len(cookie_values(self.request._request, name)) > self.expected_cookies:
            forget_other_cookies(response, name, path, self.cookies)

    def set_access_cookie(self, response: Response, name: str, pair: sessions.TokenPair) -> None:
        """Have the browser keep the access token in the cookie *name*.

        Raises:
            CookieTooLong: it does not fit.
        """
        try:
            set_cookie(response, name, pair.access_token, pair.expires_in, "/", self.cookies)
        except errors.CookieTooLong as error:
            # It names no user, so all users share the records.
            if current().records.allows("cookie too long", name):
                logger.error("No pair could be handed out: %s.", error)
            raise

    def set_refresh_cookie(self, response: Response, pair: sessions.TokenPair) -> None:
        """Have the browser keep the refresh token, if there is one."""
        if pair.refresh_token is not None and pair.refresh_expires_in is not None:
            life, path = pair.refresh_expires_in, self.cookie_path
            name = self.cookies.refresh
            set_cookie(response, name, pair.refresh_token, life, path, self.cookies)

    def forgetting(self, response: Response) -> Response:
        """Have the browser forget both tokens."""
        forget_access_cookie(response, self.cookies)
        forget_cookie(response, self.cookies.refresh, self.cookie_path, self.cookies)
        return response

    def refresh_cookies(self, request: Request) -> list[str]:
        """Return the refresh tokens that the browser has sent, from this site.

        Raises:
            CSRFFailed: another site had them sent.
        """
        raws = cookie_tokens(request._request, self.cookies.refresh)
        if raws:
            demand_csrf_token(request._request)
        return raws


class BrowserCSRFView(_BrowserEndpoint):
    """``GET``: the CSRF token that unsafe calls send as ``X-CSRFToken``."""

    def get(self, request: Request) -> Response:
        """Answer 200, and set Django's CSRF cookie."""
        return Response({"csrf_token": csrf_token(request._request)})


class BrowserLoginView(_BrowserEndpoint, LoginView):
    """``POST``: sign in; the tokens go into cookies."""

    # A login replaces whatever is there: it may be another user's.
    expected_cookies = 0

    def answer(self, pair: sessions.TokenPair, data: Mapping[str, Any]) -> Response:
        """Put the tokens into cookies; the CSRF token is a new one."""
        rotate_token(self.request._request)
        return self.handed_out(pair, data)


class BrowserRefreshView(_BrowserEndpoint, SessionEndpoint):
    """``POST``: trade the refresh cookie for new tokens."""

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Answer 200, 401, or 403 without the CSRF token."""
        try:
            raws = self.refresh_cookies(request)
            if not raws:
                # Nothing to forget: an answer that is late might delete another's cookies.
                return refresh_refused(errors.NotAuthenticated("no refresh cookie"))
            raw = raws[0] if len(raws) == 1 else sessions.newest(raws)
            if raw is None:
                # Deleting the cookies that we can name would leave another host's to be the
                # only one.
                return refresh_refused(errors.RefreshNotValid("cookies of different users"))
            pair = sessions.limited_refresh(raw, request._request, count_refresh)
        except (errors.CSRFFailed, errors.Throttled):
            raise
        except errors.Rejected as rejected:
            return self.forgetting(refresh_refused(rejected))
        try:
            return self.handed_out(pair, pair.body())
        except errors.CookieTooLong as error:
            # The old refresh token is spent: without its successor the next try would
            # look like a thief's.
            response = Response(error.body, error.status, headers=error.headers)
            self.set_refresh_cookie(response, pair)
            return response


class BrowserLogoutView(_BrowserEndpoint, LogoutView):
    """``POST``: end the session of the cookies, or of a bearer token, and delete them."""

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Answer 204, whatever the cookies are worth; 403 without the CSRF token."""
        for session_id in self._sessions_of(request):
            self.end_session(session_id, request)
        return self.forgetting(Response(status=204))

    def _sessions_of(self, request: Request) -> Iterator[UUID | None]:
        """Name the sessions of all that is genuine: of the first kind that there is.

        RFC 7009 section 2.2: an invalid token is as good as ended. Of several cookies of
        one name another host may have set all but one, to have the logout miss.
        """
        authenticator, refresh_tokens = current().authenticator, current().refresh_tokens
        named = False
        for raw in self._cookies(request, self.cookies.refresh):
            with suppress(errors.RefreshNotValid):
                yield refresh_tokens.read(raw).session_id
                named = True
        if named:
            return
        bearer = bearer_token(request._request)
        access = self.cookies.access
        tokens = [] if access is None else self._cookies(request, access)
        for raw in tokens if bearer is None else [bearer]:
            with suppress(errors.TokenNotValid):
                yield authenticator.unsafe_verify_expired(raw).session_id

    def _cookies(self, request: Request, name: str) -> list[str]:
        values = cookie_values(request._request, name)
        if values:
            demand_csrf_token(request._request)
        return values


class _ByCookie(OwnAuthentication):
    """Takes own tokens only, of the header or of the cookie."""

    BY_COOKIE = True


class BrowserSessionListView(_BrowserEndpoint, SessionListView):
    """``GET``: the caller's live sessions. ``DELETE``: end them."""

    authentication_classes: Any = (_ByCookie,)


class BrowserSessionDetailView(_BrowserEndpoint, SessionDetailView):
    """``DELETE``: end one of the caller's sessions."""

    authentication_classes: Any = (_ByCookie,)
