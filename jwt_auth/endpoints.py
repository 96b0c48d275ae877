"""What all views of the app have in common: nothing that a project could change about them.

They fix renderer, parsers, permissions, throttles, pagination, versioning and exception
handler, and stay outside ``ATOMIC_REQUESTS`` on every database.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from typing import Any, ClassVar

from django.core.exceptions import SuspiciousOperation
from django.db import connections, transaction
from django.http import Http404, QueryDict, RawPostDataException, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.datastructures import MultiValueDict
from django.views.debug import SafeExceptionReporterFilter
from django.views.decorators.debug import sensitive_variables
from rest_framework.exceptions import (
    APIException,
    NotAuthenticated,
    NotFound,
    ParseError,
    UnsupportedMediaType,
)
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, DataAndFiles
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils import json
from rest_framework.views import APIView

from jwt_auth import errors
from jwt_auth.authentication import JWTAuthentication, translated
from jwt_auth.authenticator import kept
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import Claims, VerifiedClaims, is_too_deep
from jwt_auth.transports import READS_NO_FORM, content_length, is_empty_form, record_refusal

# A name, a password and a label of the greatest lengths fit in, each character as two escapes.
MAX_BODY_SIZE = 64 * 1024

_UNREADABLE = "The body cannot be read."


# DRF reads the whole body for a parser that is a JSONParser, before the parser can refuse.
class _StrictJSONParser(BaseParser):
    """Takes JSON in UTF-8 alone (RFC 8259 section 8.1), up to a size and a depth."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        # The request's charset may name any codec of Python's, text or not. Django
        # leaves out what Python does not know.
        charset = parser_context["request"].encoding
        if charset is not None and codecs.lookup(charset).name not in {"utf-8", "ascii"}:
            raise ParseError("JSON is encoded in UTF-8.")
        # Endpoint.initial() has had Django read it, which keeps to DATA_UPLOAD_MAX_MEMORY_SIZE.
        body = parser_context["request"].body
        # Checked before json.loads() recurses, or builds objects many times the size of the body.
        if len(body) > MAX_BODY_SIZE or is_too_deep(body):
            raise ParseError("The body is too long or nested too deeply.")
        try:
            # Decoded whole: DRF's reader leaves out a last character that is cut off.
            return json.loads(body.decode("utf-8"))
        except ValueError:
            # A fixed text: the parser's own quotes the body.
            raise ParseError("The body is not valid JSON.") from None


class _EmptyFormParser(BaseParser):
    """Takes a form without a field for no body. `Endpoint.initial` has refused all others."""

    media_type = "multipart/form-data"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> DataAndFiles[Any, Any]:
        return DataAndFiles(QueryDict(), MultiValueDict())


class _JSONRenderer(JSONRenderer):
    """Shows its data in no error report: there are tokens in it."""

    render = sensitive_variables()(JSONRenderer.render)


class _AlwaysJSON(BaseContentNegotiation):
    """Answers in JSON whatever ``Accept`` says: there is nothing else to choose."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((one for one in parsers if one.media_type == content_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class Endpoint(APIView):
    """What all views here have in common."""

    authentication_classes: Any = ()
    permission_classes: Any = (AllowAny,)
    throttle_classes: Any = ()
    parser_classes: Any = (_StrictJSONParser, _EmptyFormParser)
    renderer_classes: Any = (_JSONRenderer,)
    content_negotiation_class = _AlwaysJSON
    versioning_class = None
    cache_control: ClassVar[str] = "no-store"

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view = super().as_view(**initkwargs)
        # A refusal that ends a session must outlast the refusal, and a refresh is
        # never to be undone after its answer was made.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        setattr(view, READS_NO_FORM, True)
        return view

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # First of all: the CSRF check of a cookie looks for its token in a form.
        if request.method == "POST":
            self._demand_readable_body(request)
        super().initial(request, *args, **kwargs)

    def _demand_readable_body(self, request: Request) -> None:
        """Read the body of *request*, unless it is too long or no parser of the view takes it.

        Raises:
            UnsupportedMediaType: no parser takes it, or it is a form that is not empty.
            ParseError: it is too long. It was not read.
            RawPostDataException: a middleware has begun to read it.
        """
        django_request = request._request
        length = content_length(django_request)
        if length == 0 or is_empty_form(django_request):
            return
        parser = self.get_content_negotiator().select_parser(request, self.get_parsers())
        if parser is None or isinstance(parser, _EmptyFormParser):
            raise UnsupportedMediaType(request.content_type)
        if length > MAX_BODY_SIZE:
            raise ParseError(_UNREADABLE)
        # DRF may take a body that was read in part for an empty one.
        _ = django_request.body

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Answer 204; ``Allow`` says the methods."""
        return Response(status=204)

    def get_exception_handler(self) -> Callable[[Exception, Any], Response | None]:
        return _answer

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        is_good = response.status_code in {200, 304}
        response["Cache-Control"] = self.cache_control if is_good else "no-store"
        return response


class SessionEndpoint(Endpoint):
    """A view that is not there when the project has no login sessions."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not current().settings.sessions_on:
            raise Http404
        super().initial(request, *args, **kwargs)


class OwnAuthentication(JWTAuthentication):
    """Takes own tokens only, and knows the user's key whatever other views make of one."""

    LOAD_USER = "lazy"
    BY_COOKIE = False

    def authenticate(self, request: Request) -> tuple[Any, VerifiedClaims | None] | None:
        found = super().authenticate(request)
        verdict = kept(request._request)
        if found is not None and verdict is not None and verdict.is_foreign:
            # Another issuer's users have no sessions here.
            raise translated(errors.TokenNotValid("another issuer's"), request)
        return found


class SignedIn(BasePermission):
    """The request has our access token; a CORS preflight never has one."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method == "OPTIONS" or isinstance(request.auth, Claims)


def mask_refresh_token(request: Request) -> None:
    """Take the refresh token, which was read, out of the body of *request*.

    Error reporters send the body along with any error that is logged from here on, and
    the token may still be good.
    """
    members: Any = request.data
    members["refresh_token"] = SafeExceptionReporterFilter.cleansed_substitute
    # Django keeps the body that it has read under this name.
    request._request._body = b""


def refresh_refused(rejected: errors.Rejected) -> Response:
    """Return the answer to a refused refresh token."""
    # The challenge says nothing of a token that is not in the header (RFC 6750 section 3).
    headers = {"WWW-Authenticate": errors.BARE_CHALLENGE}
    return Response(rejected.body, rejected.status, headers=headers)


def _answer(error: Exception, context: Any) -> Response | None:
    """Answer an exception of these views: the `get_exception_handler` of all of them.

    Unlike DRF's own it leaves transactions alone: these views are in none.
    """
    if isinstance(error, NotAuthenticated):
        error = errors.NotAuthenticated()
    if isinstance(error, errors.Rejected | errors.Unavailable):
        record_refusal(context["request"], error)
        return Response(error.body, error.status, headers=error.headers)
    if isinstance(error, Http404):
        error = NotFound()
    elif isinstance(error, UnsupportedMediaType):
        # DRF's own text would repeat the header.
        error = UnsupportedMediaType("", detail="The body has to be application/json.")
    elif isinstance(
        error,
        SuspiciousOperation | MultiPartParserError | RawPostDataException | UnreadablePostError,
    ):
        # Too big, too many fields, cut off, read by a middleware: Django would answer in HTML.
        error = ParseError(_UNREADABLE)
    if not isinstance(error, APIException):
        return None
    body = error.detail if isinstance(error.detail, dict) else {"detail": error.detail}
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    return Response(body, error.status_code, headers=headers)
