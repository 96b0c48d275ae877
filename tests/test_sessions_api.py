"""Logout and the list of sessions over HTTP."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import OperationalError, connection

from jwt_auth import sessions
from jwt_auth.errors import InvalidCredentials, RefreshNotValid, Unavailable
from jwt_auth.models import LoginSession
from tests.conftest import Clock, JSONClient
from tests.test_login import Listener


@pytest.fixture
def pair(user: Any, client: JSONClient, clock: Clock) -> dict[str, Any]:
    body: dict[str, Any] = client.login(device="phone").json()
    return body


def ended() -> bool:
    """Tell whether the only session has ended."""
    return LoginSession.objects.get().revoked_at is not None


def test_logout_takes_a_refresh_token_of_any_generation(
    pair: dict[str, Any], client: JSONClient, user: Any, clock: Clock
) -> None:
    client.refresh(pair["refresh_token"])
    clock.move(hours=1)
    with Listener(user_logged_out) as logged_out:
        answer = client.logout_with(pair["refresh_token"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert [call["user"] for call in logged_out.calls] == [user]
    assert LoginSession.objects.get().revoked_reason == sessions.LOGOUT


@pytest.mark.parametrize("minutes", [0, 60])
def test_logout_takes_our_access_token_expired_or_not(
    pair: dict[str, Any], client: JSONClient, clock: Clock, minutes: int
) -> None:
    clock.move(minutes=minutes)
    assert client.call("post", "/auth/logout/", token=pair["access_token"]).status_code == 204
    assert ended()


def test_logout_takes_an_empty_json_body_with_a_bearer_token(
    pair: dict[str, Any], client: JSONClient
) -> None:
    assert client.call("post", "/auth/logout/", {}, token=pair["access_token"]).status_code == 204
    assert ended()


def test_the_body_wins_over_the_header(pair: dict[str, Any], client: JSONClient, user: Any) -> None:
    other = sessions.start(user)
    client.call(
        "post", "/auth/logout/", {"refresh_token": other.refresh_token}, token=pair["access_token"]
    )
    assert client.whoami(pair["access_token"]).status_code == 200
    assert client.whoami(other.access_token).status_code == 401


def test_logout_tells_nothing(pair: dict[str, Any], client: JSONClient) -> None:
    client.logout_with(pair["refresh_token"])
    for answer in (
        client.logout_with(pair["refresh_token"]),
        client.logout_with("jwtr_" + "A" * 76),
        client.logout_with("junk"),
        client.call("post", "/auth/logout/", token="junk"),
        client.call("post", "/auth/logout/", token=pair["access_token"]),
    ):
        assert (answer.status_code, answer.content) == (204, b"")


def test_logout_without_any_token_is_400(db: None, client: JSONClient) -> None:
    for answer in (
        client.call("post", "/auth/logout/"),
        client.call("post", "/auth/logout/", {}),
        client.post("/auth/logout/", headers={"Authorization": "Basic YTpi"}),
    ):
        assert answer.status_code == 400
        assert answer.json() == {"refresh_token": ["This field is required."]}


@pytest.mark.parametrize("value", [None, 7, True, ["x"], {"a": 1}, "", " "])
@pytest.mark.parametrize("path", ["/auth/logout/", "/auth/refresh/"])
def test_a_refresh_token_is_a_string(
    pair: dict[str, Any], client: JSONClient, path: str, value: Any
) -> None:
    answer = client.call("post", path, {"refresh_token": value}, token=pair["access_token"])
    assert answer.status_code == 400
    assert list(answer.json()) == ["refresh_token"]
    assert not ended()


@pytest.mark.parametrize("body", ["[]", '"x"', "7", "null"])
@pytest.mark.parametrize("path", ["/auth/logout/", "/auth/refresh/"])
def test_a_body_is_an_object(db: None, client: JSONClient, path: str, body: str) -> None:
    answer = client.post(path, body, content_type="application/json")
    assert answer.status_code == 400
    assert list(answer.json()) == ["non_field_errors"]


def test_refresh_wants_its_field(db: None, client: JSONClient) -> None:
    answer = client.call("post", "/auth/refresh/", {})
    assert (answer.status_code, answer.json()) == (
        400,
        {"refresh_token": ["This field is required."]},
    )
    assert client.get("/auth/refresh/?refresh_token=x").status_code == 405


def test_refused_refreshes_have_the_bare_challenge(
    pair: dict[str, Any], client: JSONClient, clock: Clock
) -> None:
    second = client.refresh(pair["refresh_token"]).json()
    clock.move(seconds=121)
    answers = {
        "refresh_not_valid": client.refresh("junk"),
        "refresh_reused": client.refresh(pair["refresh_token"]),
        "session_ended": client.refresh(second["refresh_token"]),
    }
    for code, answer in answers.items():
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_list_of_sessions(
    pair: dict[str, Any], client: JSONClient, user: Any, make_user: Any, clock: Clock
) -> None:
    clock.move(minutes=1)
    other = client.login(device="laptop").json()
    sessions.start(make_user("grace"))
    sessions.end(sessions.start(user).session_id)  # type: ignore[arg-type]
    clock.move(minutes=1)
    client.refresh(other["refresh_token"])

    answer = client.call("get", "/auth/sessions/", token=pair["access_token"])

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    listed = answer.json()
    assert [(one["device"], one["current"]) for one in listed] == [
        ("laptop", False),
        ("phone", True),
    ]
    laptop = listed[0]
    assert list(laptop) == [
        "id",
        "device",
        "ip",
        "user_agent",
        "created_at",
        "last_used_at",
        "expires_at",
        "current",
    ]
    assert laptop["created_at"] == "2027-03-01T12:01:00Z"
    assert laptop["last_used_at"] == "2027-03-01T12:02:00Z"
    assert laptop["expires_at"] == "2027-03-15T12:02:00Z"


def test_what_is_over_is_not_listed(user: Any, client: JSONClient, clock: Clock) -> None:
    sessions.start(user)
    clock.move(days=14)
    token = sessions.start(user).access_token
    assert len(client.call("get", "/auth/sessions/", token=token).json()) == 1


def test_listing_needs_no_row_of_the_user(
    pair: dict[str, Any], client: JSONClient, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        client.call("get", "/auth/sessions/", token=pair["access_token"])


@pytest.mark.parametrize("method", ["get", "delete"])
def test_sessions_want_a_token(db: None, client: JSONClient, method: str) -> None:
    missing = client.call(method, "/auth/sessions/?keep=none")
    assert (missing.status_code, missing.json()["code"]) == (401, "not_authenticated")
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="api"'
    junk = client.call(method, "/auth/sessions/?keep=none", token="junk")
    assert (junk.status_code, junk.json()["code"]) == (401, "token_not_valid")
    for answer in (missing, junk):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Authorization" in answer.headers["Vary"]


def test_preflights_need_no_token(db: None, client: JSONClient) -> None:
    for path in ("/auth/sessions/", "/auth/login/"):
        answer = client.options(path, headers={"Origin": "https://elsewhere.example"})
        assert answer.status_code == 204
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_ending_one_session(pair: dict[str, Any], client: JSONClient, user: Any) -> None:
    other = sessions.start(user)
    path = f"/auth/sessions/{other.session_id}/"
    assert client.call("delete", path, token=pair["access_token"]).status_code == 204
    assert client.whoami(other.access_token).json()["code"] == "session_ended"
    assert client.whoami(pair["access_token"]).status_code == 200
    assert client.call("delete", path, token=pair["access_token"]).status_code == 204


def test_nobody_ends_anothers_session(
    pair: dict[str, Any], client: JSONClient, make_user: Any
) -> None:
    other = sessions.start(make_user("grace"))
    for session_id in (other.session_id, uuid.uuid4()):
        answer = client.call("delete", f"/auth/sessions/{session_id}/", token=pair["access_token"])
        assert answer.status_code == 404
        assert answer.json().keys() == {"detail"}
        assert answer.headers["Cache-Control"] == "no-store"
    assert client.whoami(other.access_token).status_code == 200


@pytest.mark.parametrize(("keep", "stays"), [("current", True), ("none", False)])
def test_ending_the_others_or_all(
    pair: dict[str, Any], client: JSONClient, user: Any, keep: str, stays: bool
) -> None:
    other = sessions.start(user)
    answer = client.call("delete", f"/auth/sessions/?keep={keep}", token=pair["access_token"])
    assert answer.status_code == 204
    assert client.whoami(other.access_token).status_code == 401
    assert (client.whoami(pair["access_token"]).status_code == 200) is stays


@pytest.mark.parametrize("query", ["", "?keep=", "?keep=all", "?keep=none&keep=current"])
def test_what_to_keep_has_to_be_said(pair: dict[str, Any], client: JSONClient, query: str) -> None:
    answer = client.call("delete", f"/auth/sessions/{query}", token=pair["access_token"])
    assert answer.status_code == 400
    assert not ended()


def test_published_keys(client: JSONClient, settings: Any) -> None:
    from tests.conftest import private_pem

    answer = client.get("/auth/jwks.json")
    assert answer.json() == {"keys": []}
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    settings.JWT_AUTH = {"SIGNING_KEY": private_pem("P-256")}
    (key,) = client.get("/auth/jwks.json").json()["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "use", "alg", "kid"}
    assert (key["use"], key["alg"]) == ("sig", "ES256")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (None, "203.0.113.9", "127.0.0.1"),
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9", "198.51.100.1"),
        (1, "", "127.0.0.1"),
        (1, "junk", None),
    ],
)
def test_the_address_follows_the_number_of_proxies(
    user: Any,
    client: JSONClient,
    settings: Any,
    proxies: int | None,
    forwarded: str,
    expected: str | None,
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    client.defaults["HTTP_X_FORWARDED_FOR"] = forwarded
    client.login()
    assert LoginSession.objects.get().ip == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [("fe80::1%eth0", "fe80::1"), ("", None), ("unix:", None), ("::1", "::1")],
)
def test_what_is_no_address_is_not_kept(
    user: Any, client: JSONClient, address: str, expected: str | None
) -> None:
    client.defaults["REMOTE_ADDR"] = address
    client.defaults["HTTP_USER_AGENT"] = "Browser\x00\ud800" + "x" * 300
    client.login()
    session = LoginSession.objects.get()
    assert session.ip == expected
    assert session.user_agent == ("Browser?" + "x" * 300)[:255]


def test_a_projects_token_of_nobody_is_no_token(
    db: None, client: JSONClient, settings: Any
) -> None:
    settings.REST_FRAMEWORK = {
        **settings.REST_FRAMEWORK,
        "UNAUTHENTICATED_TOKEN": dict,
        "NON_FIELD_ERRORS_KEY": "everything",
    }
    assert client.get("/auth/sessions/").status_code == 401
    assert client.delete("/auth/sessions/?keep=none").status_code == 401
    answer = client.post("/auth/login/", "[]", content_type="application/json")
    assert list(answer.json()) == ["non_field_errors"]


@pytest.mark.parametrize("load_user", ["eager", "never"])
def test_the_views_know_the_users_key_whatever_a_token_names(
    user: Any, client: JSONClient, settings: Any, load_user: str
) -> None:
    settings.JWT_AUTH = {"USER_ID_FIELD": "username", "LOAD_USER": load_user}
    pair = client.login().json()
    answer = client.call("get", "/auth/sessions/", token=pair["access_token"])
    assert [one["current"] for one in answer.json()] == [True]


@pytest.mark.parametrize("id_", ["x", "1", "\ud800", "0" * 40])
def test_what_is_no_id_is_404_in_json(pair: dict[str, Any], client: JSONClient, id_: str) -> None:
    path = f"/auth/sessions/{quote(id_, errors='replace')}/"
    answer = client.call("delete", path, token=pair["access_token"])
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not found."})
    assert answer.headers["Cache-Control"] == "no-store"


BIG = b'{"username": "' + b"a" * 10_000_000 + b'"}'
FORM = "multipart/form-data; boundary=x"
UNREADABLE = {
    "too big": (BIG, "application/json"),
    "too big a form": (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n" + BIG, FORM),
    "no form at all": (b"--y", FORM),
    "no boundary": (b"x", "multipart/form-data"),
}


@pytest.mark.parametrize(("body", "kind"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("path", ["/auth/login/", "/auth/refresh/", "/auth/logout/"])
def test_a_body_that_cannot_be_read_is_400_in_json(
    db: None, client: JSONClient, path: str, body: bytes, kind: str
) -> None:
    answer = client.post(path, body, content_type=kind)
    assert answer.status_code in {400, 415}
    assert isinstance(answer.json(), dict)
    assert answer.headers["Cache-Control"] == "no-store"


def test_our_refusals_leave_the_transaction_of_a_test_alone(user: Any, client: JSONClient) -> None:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert client.call("post", "/auth/login/", {}).status_code == 400
        assert client.get("/auth/login/").status_code == 405
        assert client.login().status_code == 200
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_a_login_that_fails_late_leaves_no_session(
    user: Any, client: JSONClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**kwargs: Any) -> None:
        raise OperationalError("gone away")

    user_logged_in.connect(fail)
    try:
        assert client.login().status_code == 503
    finally:
        user_logged_in.disconnect(fail)
    assert not LoginSession.objects.exists()


class TestTheDesk:
    """What `sessions` makes of odd arguments."""

    @pytest.mark.parametrize("raw", [None, b"x", 5])
    def test_what_is_no_text_is_no_refresh_token(self, raw: Any) -> None:
        with pytest.raises(RefreshNotValid):
            sessions.refresh(raw)

    def test_an_unsaved_user_is_not_signed_in(self, user: Any) -> None:
        with pytest.raises(InvalidCredentials):
            sessions.start(type(user)(pk=99))

    def test_a_label_is_stored_as_the_database_takes_it(self, user: Any) -> None:
        sessions.start(user, device="a\x00b\ud800" + "c" * 200, amr="pwd")
        row = LoginSession.objects.get()
        assert row.device == "ab?" + "c" * 97
        assert row.amr == ["pwd"]

    @pytest.mark.parametrize("name", ["", "a\x00b"])
    def test_user_without_a_usable_name_gets_no_token(
        self, user: Any, settings: Any, name: str
    ) -> None:
        settings.JWT_AUTH = {"USER_ID_FIELD": "username"}
        user.username = name
        with pytest.raises(Unavailable):
            sessions.start(user)
