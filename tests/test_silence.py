"""Rows 146 and 181 to 185: no token, key or password where somebody might read it."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.backends.utils import CursorWrapper
from django.http import HttpRequest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter
from rest_framework import serializers

from jwt_auth import sessions, signals, verify
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.tokens.jws import Unverified
from jwt_auth.views import LoginView
from tests.conftest import NOW, PASSWORD, JSONClient, private_pem
from tests.silence import OF_A_TEST, SECRETS, Listener

KEY = private_pem("P-256")


def secrets_in(text: str) -> list[str]:
    """Return what must not be there."""
    return [one[0] for one in SECRETS.finditer(text)]


def test_the_listener_hears(caplog: pytest.LogCaptureFixture, user: User) -> None:
    """The harness itself: it finds what it is there to find."""
    pair = sessions.start(user)
    heard = Listener()
    logger = logging.Logger("alone")
    logger.addHandler(heard)
    for secret in (pair.access_token, pair.refresh_token, PASSWORD, KEY.decode()):
        before = len(heard.found)
        logger.debug("x %s", secret)
        assert len(heard.found) == before + 1

    def fails(raw: str | None) -> None:
        raise ValueError("nothing in here")

    try:
        fails(pair.refresh_token)
    except ValueError:
        before = len(heard.found)
        logger.exception("nothing in here either")
        # In the frame, as Django's reporter shows it.
        assert len(heard.found) == before + 1


@pytest.mark.django_db
def test_reprs(user: User, settings: Any) -> None:
    settings.JWT_AUTH = {
        "SIGNING_KEY": KEY,
        "ENCRYPTION_KEY": "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o",
    }
    runtime, pair = current(), sessions.start(user)
    signed = runtime.access_tokens.encryption.open(pair.access_token)  # type: ignore[union-attr]
    request = RequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {pair.access_token}")
    objects = [
        runtime,
        runtime.settings,
        runtime.settings.ring.signing,
        runtime.access_tokens,
        runtime.access_tokens.encryption,
        runtime.refresh_tokens,
        runtime.refresh_tokens.read(pair.refresh_token or ""),
        runtime.password_marks,
        runtime.authenticator,
        runtime.authenticator.judge(request, "lazy"),
        pair,
        verify(pair.access_token),
        Unverified(signed),
        LoginSession.objects.get(),
    ]
    for one in objects:
        for text in (repr(one), str(one)):
            assert secrets_in(text) == []
            assert "q8Zr-3nVQm4sT0xW7b" not in text


def test_settings_are_masked_on_error_pages(settings: Any) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": KEY, "ISSUER": "https://id.example"}
    shown = SafeExceptionReporterFilter().get_safe_settings()["JWT_AUTH"]
    assert "PRIVATE KEY" not in str(shown)


PLACES: dict[str, Callable[[JSONClient, sessions.TokenPair], Any]] = {
    "login": lambda client, pair: client.login(),
    "refresh": lambda client, pair: client.refresh(pair.refresh_token),
    "logout": lambda client, pair: client.logout_with(pair.refresh_token),
    "verify": lambda client, pair: client.whoami(pair.access_token),
}
BROKEN = {
    "the form": "jwt_auth.tokens.jws.read_object",
    "the signature": "jwt_auth.tokens.jws._holds",
    "the signer": "jwt_auth.tokens.jws._signed",
    "the refresh token": "jwt_auth.tokens.refresh.RefreshTokens.read",
    "minting": "jwt_auth.tokens.refresh.RefreshTokens.mint",
    "authenticate": "jwt_auth.serializers.authenticate",
    "the session": "jwt_auth.sessions._pair",
}


@pytest.mark.django_db
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_error_reports(
    client: JSONClient,
    user: User,
    place: Callable[[JSONClient, sessions.TokenPair], Any],
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = sessions.start(user)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(broken, fail)
    try:
        place(client, pair)
    except RuntimeError:
        reporter = ExceptionReporter(HttpRequest(), *sys.exc_info())
        for frame in reporter.get_traceback_frames():
            if OF_A_TEST.match(frame["filename"]):
                continue
            shown = " ".join(f"{name}={value}" for name, value in frame["vars"])
            assert secrets_in(shown) == [], f"{frame['filename']}:{frame['function']}"


class _Unreadable(LoginView):
    def response_data(self, pair: sessions.TokenPair, user: Any) -> Any:
        return {**pair.body(), "no JSON": object()}


class _Failing(LoginView):
    def response_data(self, pair: sessions.TokenPair, user: Any) -> Any:
        raise RuntimeError("a bug")


class _Stumbling(LoginView):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug")


def _login_request() -> HttpRequest:
    body = {"username": "ada", "password": PASSWORD, "code": PASSWORD}
    return RequestFactory().post("/", body, content_type="application/json")


def _sign_in(view: type[LoginView]) -> None:
    view.as_view()(_login_request()).render()


@pytest.mark.django_db
@pytest.mark.parametrize("view", [_Unreadable, _Failing])
def test_an_answer_that_fails_is_reported_without_its_tokens(
    user: User, view: type[LoginView]
) -> None:
    with pytest.raises((TypeError, RuntimeError)) as caught:
        _sign_in(view)
    reported = ExceptionReporter(HttpRequest(), caught.type, caught.value, caught.tb)
    frames = [
        one for one in reported.get_traceback_frames() if not OF_A_TEST.match(one["filename"])
    ]
    assert len(frames) > 3
    assert secrets_in(str([frame["vars"] for frame in frames])) == []


class _Endless(LoginView):
    def response_data(self, pair: sessions.TokenPair, user: Any) -> Any:
        data: dict[str, Any] = {**pair.body()}
        data["data"] = data
        return data


class _NotFinite(LoginView):
    def response_data(self, pair: sessions.TokenPair, user: Any) -> Any:
        return {**pair.body(), "no JSON": float("nan")}


class _Surrogate(LoginView):
    def response_data(self, pair: sessions.TokenPair, user: Any) -> Any:
        return {**pair.body(), "no UTF-8": "\ud800"}


@pytest.mark.django_db
@pytest.mark.parametrize("view", [_Failing, _Unreadable, _Endless, _NotFinite, _Surrogate])
def test_a_session_whose_answer_fails_has_ended(user: User, view: type[LoginView]) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        _sign_in(view)
    assert LoginSession.objects.get().revoked_reason == sessions.LOGOUT


class _Late(LoginView):
    def response_data(self, pair: sessions.TokenPair, user: Any) -> Any:
        return {"token": pair.access_token, "at": NOW, "names": (one for one in ["ada"])}


@pytest.mark.django_db
def test_response_data_is_turned_into_json_once(user: User) -> None:
    answer = json.loads(_Late.as_view()(_login_request()).render().content)
    assert (answer["at"], answer["names"]) == ("2027-03-01T12:00:00Z", ["ada"])


class _Clumsy(BaseBackend):
    """Fails with the password in its variables, in those of a cause, and of its cause."""

    error: type[Exception] = RuntimeError

    def authenticate(self, request: Any, **credentials: Any) -> Any:
        password = credentials["password"]
        try:
            self.ask(password)
        except LookupError as error:
            raise self.error("a bug") from error

    def ask(self, password: str) -> None:
        try:
            self.connect([password])
        except ValueError:
            raise LookupError("no answer")  # noqa: B904

    def connect(self, secrets: list[str]) -> None:
        raise ValueError("no connection")


class _Disconnected(_Clumsy):
    error = OperationalError


class _ByCode(serializers.Serializer[Any]):
    """A serializer of the project's own, that asks Django."""

    code = serializers.CharField(trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"user": authenticate(None, username="ada", password=attrs["code"])}


class _CodeLogin(LoginView):
    serializer_class = _ByCode


CLUMSY = {"authenticate", "ask", "connect"}


@pytest.mark.django_db
@pytest.mark.parametrize("view", [LoginView, _CodeLogin])
def test_backend_that_raises_is_reported_without_the_password(
    settings: Any, view: type[LoginView]
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}._Clumsy"]
    request = _login_request()
    with pytest.raises(RuntimeError) as caught:
        view.as_view()(request)
    reporter = ExceptionReporter(request, caught.type, caught.value, caught.tb)
    frames = reporter.get_traceback_frames()
    # The report keeps the lines of code.
    assert {one["function"] for one in frames} >= CLUMSY
    assert "raise self.error" in reporter.get_traceback_html()
    for text in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert secrets_in(text) == []


@pytest.mark.django_db
@pytest.mark.parametrize("view", [LoginView, _CodeLogin])
def test_backend_without_its_database_is_logged_without_the_password(
    settings: Any, view: type[LoginView]
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}._Disconnected"]
    reports: list[str] = []

    class Reporting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.exc_info is not None
            kind, error, tb = record.exc_info
            reporter = ExceptionReporter(None, kind, error, tb)
            assert {one["function"] for one in reporter.get_traceback_frames()} >= CLUMSY
            reports.extend([reporter.get_traceback_html(), reporter.get_traceback_text()])

    handler, logger = Reporting(), logging.getLogger("jwt_auth")
    logger.addHandler(handler)
    try:
        assert view.as_view()(_login_request()).status_code == 503
    finally:
        logger.removeHandler(handler)
    assert len(reports) == 2
    assert secrets_in("".join(reports)) == []


def test_a_password_in_a_form_is_not_reported() -> None:
    """A form is refused. Whatever fails before it is refused has it in its request."""
    request = RequestFactory().post("/", {"username": "ada", "password": PASSWORD})
    with pytest.raises(RuntimeError) as caught:
        _Stumbling.as_view()(request)
    text = ExceptionReporter(request, caught.type, caught.value, caught.tb).get_traceback_text()
    assert "password" in text
    assert secrets_in(text) == []


@pytest.mark.django_db
def test_a_broken_database_is_logged_without_the_password(
    user: User, client: JSONClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, sql: str, params: Any = None) -> Any:
        raise OperationalError("gone")

    heard, logger = Listener(), logging.getLogger("jwt_auth")
    logger.addHandler(heard)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(CursorWrapper, "execute", fail)
            assert client.login().status_code == 503
    finally:
        logger.removeHandler(heard)
    assert heard.number == 1
    assert heard.found == []


@pytest.mark.django_db
def test_signals_carry_no_token(user: User, django_capture_on_commit_callbacks: Any) -> None:
    heard: list[Any] = []

    def hear(sender: Any, **kwargs: Any) -> None:
        heard.append((sender, kwargs))

    named = [signals.session_started, signals.session_refreshed, signals.session_ended]
    for signal in named:
        signal.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            pair = sessions.start(user)
            sessions.refresh(pair.refresh_token or "")
            sessions.end_all(user)
    finally:
        for signal in named:
            signal.disconnect(hear)
    assert len(heard) == 3
    assert secrets_in(repr(heard)) == []
    assert secrets_in(" ".join(repr(vars(one[1]["session"])) for one in heard)) == []


@pytest.mark.django_db
def test_the_admin_shows_none(admin_client: Any, user: User) -> None:
    pair = sessions.start(user)
    for place in ("", f"{pair.session_id}/change/"):
        page = admin_client.get(f"/admin/jwt_auth/loginsession/{place}").content.decode()
        assert secrets_in(page) == []
        assert LoginSession.objects.get().password_mark not in page


ATTACKERS = ["a\nb", "a\r\nWARNING x", "\x1b[31mred", "x" * 5000]


@pytest.mark.django_db
@pytest.mark.parametrize("text", ATTACKERS, ids=range(len(ATTACKERS)))
def test_an_attackers_text_is_one_short_line(
    client: JSONClient, user: User, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.login(text)
    client.refresh(text)
    client.whoami("x")
    client.post("/auth/login/", text, content_type="application/json", HTTP_USER_AGENT=text[:1])
    for record in caplog.records:
        if record.name.startswith("jwt_auth"):
            line = record.getMessage()
            assert len(line) < 300
            assert re.search(r"[\x00-\x1f\x7f]", line) is None
