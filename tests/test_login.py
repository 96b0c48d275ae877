"""The login view: rows A of the security requirements, throttling apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db import OperationalError
from rest_framework import serializers

from jwt_auth import sessions, verify
from jwt_auth.models import LoginSession, SessionRows
from jwt_auth.serializers import LoginSerializer
from jwt_auth.views import LoginView
from tests.conftest import PASSWORD, Clock, JSONClient


class Listener:
    """Collects what a signal of Django's is sent with."""

    def __init__(self, signal: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self._signal = signal

    def __call__(self, **kwargs: Any) -> None:
        self.calls.append(kwargs)

    def __enter__(self) -> Listener:
        self._signal.connect(self)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._signal.disconnect(self)


def post(client: JSONClient, body: Any, content_type: str = "application/json") -> Any:
    """Send *body* to the login view as it is."""
    return client.post("/auth/login/", body, content_type=content_type)


def test_right_credentials(user: User, client: JSONClient, clock: Clock) -> None:
    with Listener(user_logged_in) as logged_in:
        answer = client.login(device="Ada's phone")

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert not answer.cookies
    claims = verify(answer.json()["access_token"])
    assert (claims.subject, claims["amr"], claims["roles"]) == (str(user.pk), ["pwd"], [])
    assert [call["user"] for call in logged_in.calls] == [user]
    assert type(logged_in.calls[0]["request"]).__name__ == "WSGIRequest"
    user.refresh_from_db()
    assert user.last_login is not None
    session = LoginSession.objects.get()
    assert (session.device, session.ip, session.user) == ("Ada's phone", "127.0.0.1", user)


def test_login_takes_five_statements(
    user: User, client: JSONClient, django_assert_num_queries: Any
) -> None:
    # The user, last_login, the roles, the session, and the session with its user once more.
    with django_assert_num_queries(5) as captured:
        client.login()
    assert not any("BEGIN" in query["sql"] or "SAVEPOINT" in query["sql"] for query in captured)


@pytest.mark.parametrize(
    "backend", ["ModelBackend", "AllowAllUsersModelBackend"], ids=lambda name: str(name)
)
def test_every_refused_login_looks_alike_and_costs_one_hash(
    make_user: Any, client: JSONClient, settings: Any, hashes: list[str], backend: str
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"django.contrib.auth.backends.{backend}"]
    make_user("ada")
    make_user("inactive", is_active=False)
    make_user("unusable").set_unusable_password()
    User.objects.filter(username="unusable").update(password="!")
    bodies, header_names = set(), set()
    for name, password in [
        ("ada", "wrong"),
        ("nobody", PASSWORD),
        ("inactive", PASSWORD),
        ("unusable", PASSWORD),
    ]:
        hashes.clear()
        with Listener(user_login_failed) as failed:
            answer = client.login(name, password)
        assert answer.status_code == 401
        bodies.add(answer.content)
        header_names.add(tuple(answer.headers.items()))
        assert len(hashes) == 1
        assert len(failed.calls) == 1
        assert PASSWORD not in str(failed.calls[0]["credentials"])

    assert bodies == {
        b'{"detail":"No active account matches these credentials.","code":"invalid_credentials"}'
    }
    assert len(header_names) == 1
    assert dict(header_names.pop())["WWW-Authenticate"] == 'Bearer realm="api"'
    assert not LoginSession.objects.exists()
    assert not User.objects.exclude(last_login=None).exists()


def test_a_password_is_not_trimmed(user: User, client: JSONClient) -> None:
    assert client.login("ada", PASSWORD).status_code == 200
    assert client.login("ada", PASSWORD.strip()).status_code == 401


def test_a_user_name_is(user: User, client: JSONClient) -> None:
    assert client.login(" ada ").status_code == 200


BODIES = {
    "not JSON": "username=ada",
    "half of it": '{"username": "ada"',
    "empty": "",
    "array": "[]",
    "string": '"ada"',
    "number": "7",
    "null": "null",
    "nothing": "{}",
    "nulls": '{"username": null, "password": null}',
    "blanks": '{"username": "", "password": ""}',
    "lists": '{"username": ["ada"], "password": ["x"]}',
    "objects": '{"username": {"$ne": ""}, "password": {"$ne": ""}}',
    "booleans": '{"username": true, "password": true}',
    "NaN": '{"username": NaN, "password": "x"}',
    "NUL": '{"username": "a\\u0000", "password": "x"}',
    "surrogate": '{"username": "a\\ud800", "password": "x"}',
    "long name": json.dumps({"username": "a" * 255, "password": "x"}),
    "long password": json.dumps({"username": "ada", "password": "x" * 4097}),
    "long device": json.dumps({"username": "ada", "password": "x", "device": "x" * 101}),
    "UTF-16": '{"username": "ada", "password": "x"}'.encode("utf-16"),
    "not UTF-8": b'{"username": "\xff", "password": "x"}',
    "half a character behind": b'{"username": "ada", "password": "x"}\xc2',
    "deep": '{"username": ' + "[" * 100_000,
    "deep and closed": '{"username": ' + "[" * 50_000 + "]" * 50_000 + "}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_bad_body_is_400_and_costs_no_hash(
    user: User, client: JSONClient, hashes: list[str], body: Any
) -> None:
    hashes.clear()
    answer = post(client, body)
    assert answer.status_code == 400
    assert "code" not in answer.json()
    assert hashes == []


CHARSETS = {"utf-8": 200, "UTF8": 200, "us-ascii": 200, "no-such-codec": 200, "": 200}
OTHER_CHARSETS = dict.fromkeys(["base64", "zip", "rot13", "utf-16", "latin-1", "undefined"], 400)


@pytest.mark.parametrize(("charset", "status"), [*(CHARSETS | OTHER_CHARSETS).items()])
def test_json_is_utf_8(user: User, client: JSONClient, charset: str, status: int) -> None:
    body = json.dumps({"username": "ada", "password": PASSWORD})
    answer = client.generic(
        "POST", "/auth/login/", body, content_type=f"application/json; charset={charset}"
    )
    assert answer.status_code == status


@pytest.mark.parametrize(
    "content_type",
    ["application/xml", "text/plain", "application/x-www-form-urlencoded", "<script>", "a/b;"],
)
def test_other_content_types_are_refused_and_not_repeated(
    client: JSONClient, content_type: str
) -> None:
    answer = post(client, b"username=ada&password=x", content_type)
    assert answer.status_code == 415
    assert answer.json() == {"detail": "The body has to be application/json."}
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nothing", "a/b," * 12_500])
def test_the_answer_is_json_whatever_is_accepted(client: JSONClient, accept: str) -> None:
    answer = client.post(
        "/auth/login/", {}, content_type="application/json", headers={"Accept": accept}
    )
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete"])
def test_only_post_signs_in(client: JSONClient, method: str) -> None:
    answer = getattr(client, method)("/auth/login/?username=ada&password=x")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST, OPTIONS"
    assert answer.headers["Cache-Control"] == "no-store"


def test_credentials_in_the_query_do_not_count(user: User, client: JSONClient) -> None:
    answer = client.post(
        f"/auth/login/?username=ada&password={PASSWORD}", {}, content_type="application/json"
    )
    assert answer.status_code == 400


def test_a_body_beyond_the_limit_is_refused(user: User, client: JSONClient) -> None:
    answer = client.login(x="a" * 10_000_000)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "The body cannot be read."}
    assert client.login(x="a").status_code == 200


def test_extra_fields_do_nothing(user: User, client: JSONClient) -> None:
    assert client.login(is_staff="true", is_superuser="true", id="7").status_code == 200
    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser) == (False, False)


@pytest.mark.parametrize("header", ["Bearer junk", "Bearer", "Bearer a b", "Basic YTpi"])
def test_a_stale_credential_does_not_block_the_views_without_one(
    user: User, client: JSONClient, header: str
) -> None:
    client.defaults["HTTP_AUTHORIZATION"] = header
    pair = client.post(
        "/auth/login/", {"username": "ada", "password": PASSWORD}, content_type="application/json"
    ).json()
    refreshed = client.post(
        "/auth/refresh/", {"refresh_token": pair["refresh_token"]}, content_type="application/json"
    )
    assert refreshed.status_code == 200
    assert client.get("/auth/jwks.json").status_code == 200
    ended = client.post(
        "/auth/logout/", {"refresh_token": pair["refresh_token"]}, content_type="application/json"
    )
    assert ended.status_code == 204


def who_asks(user: Any, request: Any) -> dict[str, Any]:
    """Return the user of the request as a claim."""
    return {"asked_by": str(request.user)}


def test_who_signs_in_is_nobody_yet_whatever_else_the_request_shows(
    user: User, client: JSONClient, settings: Any
) -> None:
    """A session of Django's, say: these views read no cookie."""
    settings.JWT_AUTH = {"CLAIMS": "tests.test_login.who_asks"}
    client.force_login(user)
    pair = client.login().json()
    refreshed = client.refresh(pair["refresh_token"]).json()
    for one in (pair, refreshed):
        assert verify(one["access_token"])["asked_by"] == "AnonymousUser"


def test_a_better_hash_costs_no_session(user: User, client: JSONClient, settings: Any) -> None:
    first, second = client.login().json(), client.login().json()
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]

    assert client.login().status_code == 200

    user.refresh_from_db()
    assert user.password.startswith("scrypt$")
    for pair in (first, second):
        assert client.refresh(pair["refresh_token"]).status_code == 200
        assert client.whoami(pair["access_token"]).status_code == 200


@pytest.mark.parametrize("name", ["ada\nERROR forged", "ada\r\nSet-Cookie: a=b", "<script>"])
def test_a_user_name_forges_neither_a_log_line_nor_a_header(
    user: User, client: JSONClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level("DEBUG")
    answer = client.login(name)
    assert answer.status_code == 401
    assert "<script>" not in answer.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_a_broken_database_is_said_and_not_a_500(
    user: User,
    client: JSONClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("no such table: jwt_auth_loginsession")

    with monkeypatch.context() as patched:
        patched.setattr(SessionRows, "insert", fail)
        answer = client.login()
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert "migrate" in caplog.text
    assert PASSWORD not in caplog.text
    with monkeypatch.context() as patched:
        patched.setattr("jwt_auth.serializers.authenticate", fail)
        assert client.login().status_code == 503
    assert client.login().status_code == 200


def test_a_user_deleted_at_the_last_moment_is_no_500(
    user: User, client: JSONClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import IntegrityError

    def fail(*args: Any, **kwargs: Any) -> None:
        raise IntegrityError("FOREIGN KEY constraint failed")

    monkeypatch.setattr(SessionRows, "insert", fail)
    answer = client.login()
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")


class _CodeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"user": User.objects.get(username=attrs["code"])}


class _CodeLogin(LoginView):
    serializer_class = _CodeSerializer

    def response_data(self, pair: sessions.TokenPair, user: Any) -> dict[str, Any]:
        return {**pair.body(), "name": user.username}


def test_a_subclass_asks_and_answers_something_else(user: User, rf: Any) -> None:
    request = rf.post("/", {"code": "ada"}, content_type="application/json")
    answer = _CodeLogin.as_view()(request)
    assert answer.status_code == 200
    assert answer.data["name"] == "ada"


def test_the_login_form_follows_the_user_model() -> None:
    assert list(LoginSerializer(context={}).fields) == ["username", "password", "device"]


def test_no_view_runs_in_a_transaction_of_the_project(settings: Any) -> None:
    from django.db import connections
    from django.urls import get_resolver

    for name in ("login", "refresh", "logout", "session-list", "session-detail", "jwks"):
        patterns = get_resolver("jwt_auth.urls").url_patterns
        view = next(one.callback for one in patterns if one.name == name)
        assert view._non_atomic_requests == set(connections)
