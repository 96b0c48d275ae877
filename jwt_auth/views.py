"""The HTTP skin: login, refresh, logout, sessions and published keys.

The views fix everything that a project's DRF settings could change about their
answers, stay outside ``ATOMIC_REQUESTS`` on every database, and never read or set a
cookie.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import DatabaseError
from django.http import Http404, HttpResponse
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from rest_framework.exceptions import (
    ValidationError,
)
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from jwt_auth import errors, sessions
from jwt_auth.endpoints import (
    Endpoint,
    OwnAuthentication,
    SessionEndpoint,
    SignedIn,
    mask_refresh_token,
    refresh_refused,
)
from jwt_auth.models import LoginSession, database_answers, is_missing_row
from jwt_auth.runtime import current
from jwt_auth.serializers import LoginSerializer, forget_variables
from jwt_auth.throttling import count_refresh, login_tries
from jwt_auth.tokens.claims import VerifiedClaims
from jwt_auth.transports import HiddenText, bearer_token

# Much shorter than the time for which an old key goes on verifying.
KEYS_MAX_AGE = 300

_ORIGIN = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)

_MISSING = {"refresh_token": ["This field is required."]}


class LoginView(Endpoint):
    """``POST``: trade user name and password for a pair.

    To change what is asked, set `serializer_class`; to change what is answered,
    override `response_data`.
    """

    serializer_class: type[BaseSerializer[Any]] = LoginSerializer

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        # Around the view: method_decorator() would make a method anew for each request.
        return sensitive_post_parameters()(super().as_view(**initkwargs))

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Answer 200 with a pair, 400 with field errors, or 401."""
        return self._sign_in(request, is_last_try=False)

    @sensitive_variables()
    def _sign_in(self, request: Request, *, is_last_try: bool) -> Response:
        django_request = request._request
        serializer = self.serializer_class(
            data=_members(request.data), context={"request": django_request, "view": self}
        )
        account = _text(_members(request.data).get(get_user_model().USERNAME_FIELD))
        with login_tries(django_request, account), database_answers(), _missing_user_refused():
            _validate(serializer)
            user = serializer.validated_data["user"]
            # Django's own receiver notes last_login. Before the session is there: if a
            # receiver fails, no session is left that nobody holds.
            user_logged_in.send(sender=user.__class__, request=django_request, user=user)
        try:
            pair = sessions.start(
                user,
                django_request,
                device=serializer.validated_data.get("device", ""),
                amr=("pwd",),
            )
        except errors.InvalidCredentials:
            if is_last_try:
                raise
            # The user has changed meanwhile. Ask again: the new hash may be of the same
            # password, stored by another login.
            return self._sign_in(request, is_last_try=True)
        try:
            return self.answer(pair, _as_json(self.response_data(pair, user)))
        except BaseException:
            if pair.session_id is not None:
                # Nobody holds it.
                sessions.end(pair.session_id, sessions.LOGOUT, django_request)
            raise

    def answer(self, pair: sessions.TokenPair, data: Mapping[str, Any]) -> Response:
        """Return the response with the body *data*."""
        return Response(data)

    def response_data(self, pair: sessions.TokenPair, user: Any) -> Mapping[str, Any]:
        """Return the body to answer with."""
        return pair.body()


class RefreshView(SessionEndpoint):
    """``POST``: trade a refresh token for a new pair."""

    @sensitive_variables()
    def post(self, request: Request) -> HttpResponse:
        """Answer 200 with a pair, 400 with field errors, or 401."""
        raw = _refresh_token(request.data)
        if raw is None:
            raise ValidationError(_MISSING)
        mask_refresh_token(request)
        try:
            pair = sessions.limited_refresh(raw, request._request, count_refresh)
        except errors.Throttled:
            raise
        except errors.Rejected as rejected:
            return refresh_refused(rejected)
        # As DRF would render it, without the way there.
        text = json.dumps(pair.body(), separators=(",", ":"))
        return HttpResponse(text, content_type="application/json")


class LogoutView(SessionEndpoint):
    """``POST``: end the session of a refresh token, or of the bearer access token."""

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Answer 204, for an unknown token too; 400 if there is no token at all."""
        raw = _refresh_token(request.data)
        if raw is not None:
            mask_refresh_token(request)
        try:
            session_id = self._session_id(request, raw)
        except (errors.RefreshNotValid, errors.TokenNotValid):
            # RFC 7009 section 2.2: an invalid token is as good as ended.
            return Response(status=204)
        self.end_session(session_id, request)
        return Response(status=204)

    def _session_id(self, request: Request, raw: str | None) -> UUID | None:
        if raw is not None:
            return current().refresh_tokens.read(raw).session_id
        raw = bearer_token(request)
        if raw is None:
            raise ValidationError(_MISSING)
        return current().authenticator.unsafe_verify_expired(raw).session_id

    def end_session(self, session_id: UUID | None, request: Request) -> None:
        """End the session, and say so if it was live."""
        with database_answers():
            sessions_with_user = LoginSession.objects.on_primary().select_related("user")
            session = sessions_with_user.named(session_id).first()
        if session is not None and sessions.end(session.pk, sessions.LOGOUT, request._request):
            user = session.user
            user_logged_out.send(sender=user.__class__, request=request._request, user=user)


class SessionListView(SessionEndpoint):
    """``GET``: the caller's live sessions. ``DELETE``: end them."""

    authentication_classes: Any = (OwnAuthentication,)
    permission_classes: Any = (SignedIn,)

    def get(self, request: Request) -> Response:
        """Answer 200 with a plain list, newest first."""
        runtime = current()
        idle_limit = runtime.settings.refresh_lifetime
        assert idle_limit is not None  # noqa: S101
        with database_answers():
            live = list(
                LoginSession.objects.on_primary()
                .filter(user_id=_user_pk(request))
                .live(runtime.clock(), idle_limit)
                .order_by("-created_at", "-pk")
            )
        return Response(
            [
                {
                    "id": str(session.pk),
                    "device": session.device,
                    "ip": session.ip,
                    "user_agent": session.user_agent,
                    "created_at": session.created_at,
                    "last_used_at": session.rotated_at,
                    "expires_at": session.ends_at(idle_limit),
                    "current": session.pk == _claims(request).session_id,
                }
                for session in live
            ]
        )

    def delete(self, request: Request) -> Response:
        """Answer 204; ``?keep=current`` or ``?keep=none`` has to be said."""
        keep = request.query_params.getlist("keep")
        if keep == ["current"]:
            kept = _claims(request).session_id
        elif keep == ["none"]:
            kept = None
        else:
            raise ValidationError({"keep": ["Say ?keep=current or ?keep=none."]})
        sessions.end_all(request.user, except_session=kept, request=request._request)
        return Response(status=204)


class SessionDetailView(SessionEndpoint):
    """``DELETE``: end one of the caller's sessions."""

    authentication_classes: Any = (OwnAuthentication,)
    permission_classes: Any = (SignedIn,)

    def delete(self, request: Request, id: str) -> Response:  # noqa: A002
        """Answer 204, or 404 for what is not one of the caller's sessions."""
        try:
            session_id = UUID(id)
        except ValueError:
            raise Http404 from None
        with database_answers():
            own = LoginSession.objects.on_primary().filter(pk=session_id, user_id=_user_pk(request))
            if not own.exists():
                raise Http404
        sessions.end(session_id, sessions.LOGOUT, request._request)
        return Response(status=204)


class _Published(Endpoint):
    """A document that anybody may read and keep, with an ``ETag`` (RFC 9110 section 8.8.3)."""

    cache_control = f"public, max-age={KEYS_MAX_AGE}"

    def publish(self, request: Request, document: Any) -> Any:
        """Answer 200 with *document*, or 304 to who has it."""
        text = json.dumps(document, sort_keys=True).encode()
        etag = quote_etag(hashlib.sha256(text).hexdigest()[:32])
        response = Response(document, headers={"ETag": etag})
        return get_conditional_response(request._request, etag=etag, response=response)


class JWKSView(_Published):
    """``GET``: the public keys that verify our access tokens (RFC 7517 section 5)."""

    def get(self, request: Request) -> Any:
        """Answer 200 or 304; with HMAC keys alone the list is empty."""
        return self.publish(request, current().settings.ring.public_jwks())


class MetadataView(_Published):
    """``GET``: where an issuer's keys are (RFC 8414 section 3).

    There to lead verifiers to the keys. No grant and no response type is offered:
    the login is a first party's, not OAuth's token endpoint.
    """

    def get(self, request: Request) -> Any:
        """Answer 200 or 304; 404 unless ``ISSUER`` is an https URL without a path."""
        issuer = current().settings.issuer
        if issuer is None or not _is_origin(issuer):
            raise Http404
        return self.publish(
            request,
            {
                "issuer": issuer,
                # From the settings and never from the request's Host.
                "jwks_uri": issuer + reverse(f"{_namespace(request)}:jwks"),
                "grant_types_supported": [],
                "response_types_supported": [],
            },
        )


class RevokedView(Endpoint):
    """``GET``: the sessions that were ended lately, as a signed list for other services."""

    # As old as the list itself may be by default.
    cache_control = "public, max-age=1"

    def get(self, request: Request) -> Any:
        """Answer 200 or 304; 404 without a list, or without a key that others can verify by."""
        published = current().published_list
        if published is None:
            raise Http404
        text = published.text().encode()
        etag = quote_etag(hashlib.sha256(text).hexdigest()[:32])
        response = HttpResponse(text, content_type="application/jwt", headers={"ETag": etag})
        return get_conditional_response(request._request, etag=etag, response=response)


@sensitive_variables()
def _validate(serializer: BaseSerializer[Any]) -> None:
    """Run *serializer*, which may be the project's own.

    Raises:
        Exception: what it raises, without the variables, one of which is the password.
    """
    try:
        serializer.is_valid(raise_exception=True)
    except Exception as error:
        forget_variables(error)
        raise


@sensitive_variables()
def _as_json(data: Mapping[str, Any]) -> Any:
    """Return *data* as JSON has it, so that nothing is left to fail when DRF renders it.

    Raises:
        TypeError, ValueError: it has no JSON.
    """
    return json.loads(JSONRenderer().render(data))


def _text(value: Any) -> str:
    """Return *value* as a field of text takes it; empty for what such a field refuses."""
    # The type itself counts: bool is an int. str() of a list takes quadratic time in its depth.
    return str(value) if type(value) in (str, int, float) else ""


@contextmanager
def _missing_user_refused() -> Iterator[None]:
    """Refuse a user who is deleted during the login like one who never was.

    Django notes the time of a login, and a new hash, in the user's row.
    """
    try:
        yield
    except DatabaseError as error:
        if not is_missing_row(error, get_user_model()):
            raise
        raise errors.InvalidCredentials("the user is gone") from None


def _namespace(request: Request) -> str:
    match = request._request.resolver_match
    assert match is not None  # noqa: S101
    return match.namespace


def _is_origin(issuer: str) -> bool:
    # RFC 8414 section 2: https, "with no query or fragment components". A path would
    # put the document elsewhere (section 3.1).
    return _ORIGIN.fullmatch(issuer) is not None


def _claims(request: Request) -> VerifiedClaims:
    """Return the claims of a request that `SignedIn` has let through."""
    claims: Any = request.auth
    return VerifiedClaims(claims)


def _user_pk(request: Request) -> Any:
    return request.user.pk


def _members(data: Any) -> Mapping[str, Any]:
    # The name under which DRF would say it is a setting of the project.
    if isinstance(data, Mapping):
        return data
    text = f"Invalid data. Expected a dictionary, but got {type(data).__name__}."
    raise ValidationError({"non_field_errors": [text]})


def _refresh_token(data: Any) -> str | None:
    """Return the member ``refresh_token`` of a body, or `None` without one.

    The errors are those of a DRF field, at a fraction of a serializer's price.
    """
    members = _members(data)
    if "refresh_token" not in members:
        return None
    raw = members["refresh_token"]
    if raw is None:
        text = "This field may not be null."
    elif not isinstance(raw, str):
        text = "Not a valid string."
    elif not raw.strip():
        text = "This field may not be blank."
    else:
        return HiddenText(raw)
    raise ValidationError({"refresh_token": [text]})
