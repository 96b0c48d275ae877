"""Any body and any query to the views: an answer that is documented, and nothing else."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth import get_user_model
from hypothesis import given
from hypothesis import strategies as st

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.conftest import PASSWORD, JSONClient
from tests.fuzzing.strategies import (
    changed,
    damaged,
    examples,
    json_objects,
    json_values,
    near_values,
    text,
)

pytestmark = pytest.mark.django_db

ERRORS = {400, 401, 415}
POSTED = {"login": ERRORS, "refresh": ERRORS, "logout": {204, 400, 415}}
CONTENT_TYPES = st.sampled_from(
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json; charset=utf-16",
        "application/json; charset=rot13",
        "application/json; charset=",
        "APPLICATION/JSON",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "text/plain",
        "application/xml",
        "",
        ";",
        "/",
    ]
)


@pytest.fixture(autouse=True)
def no_brakes(settings: Any) -> None:
    """Answer each try for itself: that too many are refused is tested elsewhere."""
    settings.JWT_AUTH = {
        "THROTTLE_RATES": dict.fromkeys(("login", "login_account", "login_address", "refresh"))
    }


@pytest.fixture
def pair(user: Any, make_user: Any) -> sessions.TokenPair:
    """Return the tokens of a session, beside which there are others."""
    sessions.start(user)
    sessions.start(make_user("eve"))
    return sessions.start(user)


def rows() -> list[Any]:
    """Return the whole database, as far as it is ours."""
    users = get_user_model().objects.values_list().order_by("pk")
    return [*users, *LoginSession.objects.values_list().order_by("pk")]


def members(body: bytes) -> dict[str, Any]:
    """Return the members of a body as any parser of JSON finds them."""
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def refused(answer: Any, statuses: set[int], before: list[Any]) -> None:
    """Demand a documented refusal that has changed nothing."""
    assert answer.status_code in statuses, answer.content
    assert answer.headers["Cache-Control"] == "no-store"
    assert not answer.cookies
    assert rows() == before
    if answer.status_code == 204:
        assert not answer.content
        return
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert isinstance(body, dict)
    assert body
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
        assert body["code"] in {"invalid_credentials", "refresh_not_valid"}


def post(
    client: JSONClient, call: str, body: bytes, content_type: str = "application/json"
) -> tuple[Any, list[Any]]:
    """Return the answer, and the rows from before."""
    before = rows()
    # `post()` would encode by the charset that is only said.
    return client.generic("POST", f"/auth/{call}/", body, content_type), before


def to_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("call", POSTED)
@given(value=json_values | near_values)
@examples(50)
def test_any_json_is_refused(call: str, value: Any, client: JSONClient, pair: Any) -> None:
    answer, before = post(client, call, to_bytes(value))
    refused(answer, POSTED[call], before)


@pytest.mark.parametrize("call", POSTED)
@given(body=st.binary(max_size=200), content_type=CONTENT_TYPES)
@examples(50)
def test_any_bytes_of_any_content_type_are_refused(
    call: str, body: bytes, content_type: str, client: JSONClient, pair: Any
) -> None:
    answer, before = post(client, call, body, content_type)
    refused(answer, POSTED[call], before)


@pytest.mark.parametrize("call", POSTED)
@given(content_type=st.text(st.characters(max_codepoint=255), max_size=60))
@examples(40)
def test_any_content_type_is_refused_or_is_json(
    call: str, content_type: str, client: JSONClient, pair: Any
) -> None:
    answer, before = post(client, call, b'{"refresh_token": "x", "username": "ada"}', content_type)
    refused(answer, POSTED[call], before)


@given(
    body=changed({"username": "ada", "password": "wrong", "device": "phone"}),
    password=text.filter(lambda one: one != PASSWORD),
)
@examples(60)
def test_a_login_without_the_password_is_refused(
    body: dict[str, Any], password: str, client: JSONClient, pair: Any
) -> None:
    body["password"] = body.get("password", password)
    answer, before = post(client, "login", to_bytes(body))
    refused(answer, {400, 401}, before)


@given(more=json_objects, device=near_values)
@examples(30)
def test_a_login_takes_nothing_but_its_fields(
    more: dict[str, Any], device: Any, client: JSONClient, user: Any
) -> None:
    LoginSession.objects.all().delete()
    body = {**more, "device": device, "username": "ada", "password": PASSWORD}
    answer, before = post(client, "login", to_bytes(body))
    if answer.status_code == 400:
        # Whatever else was sent along, it is the label that is refused.
        assert answer.json().keys() == {"device"}
        assert rows() == before
        return
    assert answer.status_code == 200
    started = LoginSession.objects.get()
    assert started.user == user
    assert started.device == str(device).strip()
    user.refresh_from_db()
    assert (user.username, user.is_staff, user.is_superuser) == ("ada", False, False)


@pytest.mark.usefixtures("same_token")
@pytest.mark.parametrize("call", ["refresh", "logout"])
@given(data=st.data())
@examples(60)
def test_a_body_around_a_refresh_token_means_that_token_or_nothing(
    call: str, data: st.DataObject, client: JSONClient, user: Any
) -> None:
    # One that may be spent, for the body may turn out to be good.
    LoginSession.objects.all().delete()
    raw = sessions.start(user).refresh_token
    assert raw is not None
    good = json.dumps({"refresh_token": raw})
    inside = st.sampled_from([[raw], {"token": raw}, f" {raw}", f"{raw}\x00", raw.upper(), raw])
    body = data.draw(
        damaged([good]).map(lambda one: one.encode("utf-8", "surrogateescape"))
        | inside.map(lambda one: to_bytes({"refresh_token": one}))
        | changed({"refresh_token": raw}).map(to_bytes)
    )
    before = rows()
    answer = client.post(f"/auth/{call}/", body, content_type="application/json")
    if members(body).get("refresh_token") == raw:
        assert answer.status_code == {"refresh": 200, "logout": 204}[call]
        assert rows() != before
    else:
        refused(answer, POSTED[call], before)


@given(
    query=st.lists(st.tuples(text, text), max_size=3)
    | st.sampled_from(
        [[("keep", "none "), ("keep", "none")], [("keep", "NONE")], [("Keep", "none")]]
    )
)
@examples(50)
def test_sessions_are_ended_by_the_two_words_alone(
    query: list[tuple[str, str]], client: JSONClient, pair: sessions.TokenPair
) -> None:
    before = rows()
    answer = client.delete(
        "/auth/sessions/",
        query_params=query,
        headers={"Authorization": f"Bearer {pair.access_token}"},
    )
    refused(answer, {400}, before)


@given(name=text | st.uuids().map(str))
@examples(60)
def test_any_name_of_a_session_is_not_there(
    name: str, client: JSONClient, pair: sessions.TokenPair
) -> None:
    before = rows()
    answer = client.delete(
        f"/auth/sessions/{quote(name, safe='')}/",
        headers={"Authorization": f"Bearer {pair.access_token}"},
    )
    assert answer.status_code == 404
    assert rows() == before
