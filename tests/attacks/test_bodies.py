"""Rows 197, 210 and 217: a body is small, shallow, whole JSON, or it is refused unread."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.urls import include, path, resolve
from rest_framework import serializers
from rest_framework.parsers import BaseParser

from jwt_auth import sessions
from jwt_auth.endpoints import MAX_BODY_SIZE
from jwt_auth.models import LoginSession
from jwt_auth.serializers import LoginSerializer
from jwt_auth.tokens.claims import MAX_DEPTH
from jwt_auth.transports import MAX_EMPTY_FORM_SIZE
from jwt_auth.views import LoginView
from tests import urls as own_urls
from tests.attacks.conftest import Target
from tests.conftest import PASSWORD, Clock, JSONClient


class CodeSerializer(serializers.Serializer[Any]):
    """Asks for fields of DRF."""

    username = serializers.CharField()
    code = serializers.CharField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Let in whoever has the code."""
        return {"user": User.objects.get(username=attrs["username"])}


class CodeLogin(LoginView):
    """A login of the project's own."""

    serializer_class = CodeSerializer


urlpatterns = [
    *own_urls.urlpatterns,
    path("auth/browser/", include("jwt_auth.urls.browser")),
    path("own/", CodeLogin.as_view()),
]

# The views that read a body, and all views that could be sent one.
READING = ["/auth/login/", "/auth/refresh/", "/auth/logout/", "/auth/browser/login/", "/own/"]
POSTED = [
    *READING,
    "/auth/browser/refresh/",
    "/auth/browser/logout/",
    "/auth/sessions/",
    "/auth/browser/sessions/",
]
MEMBERS = ["username", "password", "device", "code", "refresh_token"]
FORM = "multipart/form-data; boundary=x"
REFRESH, ACCESS = "__Secure-refresh_token", "__Host-access_token"


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": ACCESS}}


def nested(depth: int, size: int = 0) -> str:
    """Return a list of lists of *depth* levels, repeated up to *size*."""
    inner = depth - 1
    one = "[" * inner + "]" * inner
    return f"[{','.join([one] * max(1, size // (2 * inner + 1)))}]"


# Each value is a member of the body. Most kept a process from answering, or cost 60 MiB.
HOSTILE = {
    "lists of a thousand levels": nested(1000, 2_400_000),
    "lists of nine thousand levels": nested(9000, 2_400_000),
    "lists that end nowhere": "[" * 2_400_000,
    "small lists of nine thousand levels": nested(9000, 50_000),
    "objects": "[" + "{}," * 800_000 + "{}]",
    "strings": "[" + '"",' * 800_000 + '""]',
    "one string": json.dumps("x" * 2_400_000),
    "escaped quotes": '"' + '\\"' * 1_200_000 + '"',
    "a level too many": nested(MAX_DEPTH),
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", READING)
def test_costly_body_is_refused_at_once(
    client: JSONClient, user: User, target: Target, settings: Any, place: str, value: str
) -> None:
    settings.JWT_AUTH = {**settings.JWT_AUTH, "COOKIES": {}}
    for name in ("username", "refresh_token"):
        body = f'{{"{name}": {value}}}'
        answer = target.survives(lambda: client.generic("POST", place, body, "application/json"))  # noqa: B023
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/json"
    answer = target.survives(lambda: client.generic("POST", place, value, "application/json"))
    assert answer.status_code == 400


def test_bounds_are_exact(client: JSONClient, user: User) -> None:
    good = json.dumps({"username": "ada", "password": PASSWORD})[:-1]

    def login(more: str) -> int:
        body = f'{good}, "x": {more}}}'
        return client.generic("POST", "/auth/login/", body, "application/json").status_code

    assert login(nested(MAX_DEPTH - 1)) == 200
    assert login(nested(MAX_DEPTH)) == 400
    rest = MAX_BODY_SIZE - len(f'{good}, "x": ""}}')
    assert login(f'"{"x" * rest}"') == 200
    assert login(f'"{"x" * (rest + 1)}"') == 400


class Unread:
    """A stream that fails the test when it is read."""

    closed = False

    def read(self, *args: Any) -> bytes:
        """Fail."""
        raise AssertionError("the body was read")

    readline = seek = read

    def seekable(self) -> bool:
        """Say that a server has spooled it."""
        return True

    def close(self) -> None:
        """Let the request end."""


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json", 400), (FORM, 415), ("application/x-www-form-urlencoded", 415)],
)
@pytest.mark.parametrize("place", POSTED)
def test_long_body_is_refused_unread(
    db: None, client: JSONClient, place: str, content_type: str, status: int
) -> None:
    answer = client.post(
        place,
        **{
            "wsgi.input": Unread(),
            "content_type": content_type,
            "CONTENT_LENGTH": str(MAX_BODY_SIZE + 1),
            "CONTENT_TYPE": content_type,
        },
    )
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("content_type", ["application/json", FORM])
@pytest.mark.parametrize("place", READING)
def test_chunked_body_is_left_unread(db: None, place: str, content_type: str) -> None:
    """DRF reads no body whose length is not declared."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": place,
        "headers": [
            (b"transfer-encoding", b"chunked"),
            (b"content-type", content_type.encode()),
        ],
        "server": ("testserver", 443),
        "scheme": "https",
    }
    request: Any = ASGIRequest(scope, Unread())
    request.resolver_match = resolve(place)
    answer = request.resolver_match.func(request)
    assert answer.status_code == 400


class Loud(list[Any]):
    """A list that fails the test when a text is made of it, or when it is compared."""

    def _fail(self, *args: Any) -> Any:
        raise AssertionError("a list was used as a text")

    __str__ = __repr__ = __format__ = _fail


class LoudParser(BaseParser):
    """Gives each member a value whose text is costly."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return such members."""
        return {name: Loud() for name in MEMBERS}


class LoudLogin(LoginView):
    """A login with a parser of the project's own."""

    parser_classes = [LoudParser]


def test_list_is_not_made_a_text(db: None, rf: Any) -> None:
    answer = LoudLogin.as_view()(rf.post("/", {}, content_type="application/json"))
    assert answer.status_code == 400
    text = ["Not a valid string."]
    assert answer.data == {"username": text, "password": text, "device": text}


@pytest.mark.parametrize("value", [[], {}, [1], {"a": 1}, True, False])
@pytest.mark.parametrize("field", ["username", "password", "device"])
def test_field_of_text_refuses_other_types(db: None, field: str, value: Any) -> None:
    data = {"username": "ada", "password": "x", field: value}
    serializer = LoginSerializer(data=data, context={"request": None})
    assert not serializer.is_valid()
    assert serializer.errors == {field: ["Not a valid string."]}


def test_number_counts_as_its_text(
    db: None, client: JSONClient, clock: Clock, make_user: Callable[..., User]
) -> None:
    make_user("7")
    assert (
        client.call("post", "/auth/login/", {"username": 7, "password": PASSWORD}).status_code
        == 200
    )
    tries = [
        client.call("post", "/auth/login/", {"username": name, "password": "x"}).status_code
        for name in [7, "7"] * 50 + [7]
    ]
    assert tries == [401] * 100 + [429]


class Alarm(FileUploadHandler):
    """Counts the forms that Django begins to parse."""

    parsed = 0

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        """Count."""
        Alarm.parsed += 1

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Pass it on."""
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Keep no file."""


@pytest.fixture
def alarm(settings: Any) -> type[Alarm]:
    settings.FILE_UPLOAD_HANDLERS = [f"{__name__}.Alarm"]
    Alarm.parsed = 0
    return Alarm


UPLOAD = (
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    + b"x" * 3_000_000
    + b"\r\n--x--\r\n"
)
SMALL_FORM = b'--x\r\nContent-Disposition: form-data; name="refresh_token"\r\n\r\nx\r\n--x--\r\n'


@pytest.mark.parametrize("cookies", ["none", "junk", "genuine"])
@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("body", [UPLOAD, SMALL_FORM], ids=["upload", "field"])
@pytest.mark.parametrize("place", POSTED)
def test_form_is_refused_unparsed(
    user: User,
    client: JSONClient,
    alarm: type[Alarm],
    settings: Any,
    place: str,
    body: bytes,
    has_middleware: bool,
    cookies: str,
) -> None:
    if has_middleware:
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "jwt_auth.middleware.JWTAuthenticationMiddleware",
        ]
    pair = sessions.start(user)
    if cookies != "none":
        # Django looks for the CSRF token in the form, since the header has none.
        client.cookies["csrftoken"] = "a" * 32
        is_junk = cookies == "junk"
        client.cookies[REFRESH] = "x" if is_junk else pair.refresh_token
        client.cookies[ACCESS] = "x" if is_junk else pair.access_token
    answer = client.generic(
        "POST", place, body, FORM, secure=True, HTTP_ORIGIN="https://testserver"
    )
    assert answer.status_code == 415
    assert answer.json() == {"detail": "The body has to be application/json."}
    assert alarm.parsed == 0
    session = LoginSession.objects.get()
    assert (session.revoked_at, session.generation) == (None, 0)


def empty_form(boundary: str) -> tuple[bytes, str]:
    """Return the body and the content type of a form without a field."""
    return f"--{boundary}--\r\n".encode(), f'multipart/form-data; boundary="{boundary}"'


@pytest.mark.parametrize("boundary", ["x", "BoUnDaRyStRiNg", "-" * 70])
def test_empty_form_counts_as_no_body(
    user: User, client: JSONClient, alarm: type[Alarm], boundary: str
) -> None:
    body, content_type = empty_form(boundary)

    def post(place: str, **headers: str) -> Any:
        return client.generic("POST", place, body, content_type, secure=True, headers=headers)

    assert post("/auth/login/").json().keys() == {"username", "password"}
    assert post("/auth/refresh/").json() == {"refresh_token": ["This field is required."]}
    assert post("/auth/logout/").json() == {"refresh_token": ["This field is required."]}
    assert post("/auth/browser/refresh/").json()["code"] == "not_authenticated"
    assert post("/auth/browser/logout/").status_code == 204
    token = sessions.start(user).access_token
    assert post("/auth/logout/", Authorization=f"Bearer {token}").status_code == 204
    assert LoginSession.objects.get().revoked_at is not None
    assert alarm.parsed == 0


ALMOST_EMPTY = {
    "a field": SMALL_FORM,
    "another boundary": b"--y--\r\n",
    "an opening boundary": b"--x\r\n--x--\r\n",
    "a preamble": b"refresh_token=x\r\n--x--\r\n",
    "an epilogue": b"--x--\r\nrefresh_token=x",
    "spaces": b" " * MAX_EMPTY_FORM_SIZE + b"--x--",
}


@pytest.mark.parametrize("body", ALMOST_EMPTY.values(), ids=ALMOST_EMPTY)
def test_other_form_is_not_taken_for_an_empty_one(
    user: User, client: JSONClient, alarm: type[Alarm], body: bytes
) -> None:
    token = sessions.start(user).access_token
    headers = {"Authorization": f"Bearer {token}"}
    answer = client.generic("POST", "/auth/logout/", body, FORM, headers=headers)
    assert answer.status_code == 415
    assert LoginSession.objects.get().revoked_at is None
    assert alarm.parsed == 0


def begins_to_read(get_response: Any) -> Any:
    """Return a middleware that looks at the first byte of a body."""

    def middleware(request: Any) -> HttpResponse:
        request.read(1)
        answer: HttpResponse = get_response(request)
        return answer

    return middleware


def begins_to_read_a_form(get_response: Any) -> Any:
    """Return a middleware that looks at the first byte of a body, and then for a form."""

    def middleware(request: Any) -> HttpResponse:
        request.read(1)
        _ = request.POST
        answer: HttpResponse = get_response(request)
        return answer

    return middleware


def parses(get_response: Any) -> Any:
    """Return a middleware that looks for a form."""

    def middleware(request: Any) -> HttpResponse:
        _ = request.POST
        answer: HttpResponse = get_response(request)
        return answer

    return middleware


@pytest.mark.parametrize("reader", [begins_to_read, begins_to_read_a_form])
@pytest.mark.parametrize("place", READING)
def test_body_that_a_middleware_has_begun_is_400(
    user: User, client: JSONClient, settings: Any, place: str, reader: Any
) -> None:
    pair = sessions.start(user)
    body = {"username": "ada", "password": PASSWORD, "refresh_token": pair.refresh_token}
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{reader.__name__}"]
    answer = client.call("post", place, body, pair.access_token)
    assert (answer.status_code, answer.json()) == (400, {"detail": "The body cannot be read."})
    assert answer.headers["Cache-Control"] == "no-store"
    # Its token was not mistaken for that of a logout without a body.
    assert LoginSession.objects.get().revoked_at is None


def test_form_that_a_middleware_has_parsed_is_415(
    user: User, client: JSONClient, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.parses"]
    form = {"username": "ada", "password": PASSWORD}
    for place in READING:
        assert client.post(place, form, secure=True).status_code == 415
    assert not LoginSession.objects.exists()


def test_empty_form_that_a_middleware_has_parsed_counts_as_no_body(
    user: User, client: JSONClient, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.parses"]
    token = sessions.start(user).access_token
    assert client.call("post", "/auth/logout/", token=token).status_code == 204
    assert LoginSession.objects.get().revoked_at is not None
