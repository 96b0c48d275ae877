"""The life of a login, from the password to the logout, as the README tells it.

Run under every settings module of the tests: integer, UUID and string keys; with and
without ``is_active`` and groups.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.conftest import PASSWORD, Clock, JSONClient, private_pem

NAME = "ada@example.com"

KEYS: dict[str, dict[str, Any]] = {
    "derived": {},
    "secret": {"SIGNING_KEY": "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"},
    "RSA-2048": {"SIGNING_KEY": private_pem("RSA-2048")},
    "PS256": {"SIGNING_KEY": private_pem("RSA-2048"), "ALGORITHM": "PS256"},
    "P-256": {"SIGNING_KEY": private_pem("P-256")},
    "Ed25519": {"SIGNING_KEY": private_pem("Ed25519").decode()},
}


@pytest.fixture(params=KEYS)
def jwt_auth(request: Any, settings: Any) -> dict[str, Any]:
    settings.JWT_AUTH = dict(KEYS[request.param])
    return dict(KEYS[request.param])


@pytest.fixture
def user(make_user: Any) -> Any:
    return make_user(NAME)


def tampered(token: str) -> str:
    """Change the first character of the signature."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def challenge(response: Any) -> str:
    """Return the challenge of an answer."""
    return str(response.headers["WWW-Authenticate"])


def test_a_login_from_the_password_to_the_logout(
    jwt_auth: Any, user: Any, client: JSONClient, clock: Clock
) -> None:
    answer = client.login(NAME)
    assert answer.status_code == 200
    first = answer.json()
    assert list(first) == [
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
    ]
    assert first["token_type"] == "Bearer"
    assert first["expires_in"] == 300
    assert first["refresh_expires_in"] == 14 * 24 * 3600

    whoami = client.whoami(first["access_token"])
    assert whoami.status_code == 200
    assert whoami.json()["pk"] == str(user.pk)

    missing = client.whoami()
    assert (missing.status_code, challenge(missing)) == (401, 'Bearer realm="api"')

    forged = client.whoami(tampered(first["access_token"]))
    assert (forged.status_code, forged.json()["code"]) == (401, "token_not_valid")
    assert challenge(forged) == 'Bearer realm="api", error="invalid_token"'

    clock.move(minutes=5)
    expired = client.whoami(first["access_token"])
    assert (expired.status_code, expired.json()["code"]) == (401, "token_expired")

    answer = client.refresh(first["refresh_token"])
    assert answer.status_code == 200
    second = answer.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert client.whoami(second["access_token"]).status_code == 200

    clock.move(seconds=120)
    replay = client.refresh(first["refresh_token"])
    assert replay.status_code == 200
    assert replay.json()["refresh_token"] == second["refresh_token"]

    assert client.logout_with(second["refresh_token"]).status_code == 204
    refused = client.refresh(second["refresh_token"])
    assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")
    refused = client.whoami(second["access_token"])
    assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")


def test_access_tokens_alone_touch_no_table(
    settings: Any, user: Any, client: JSONClient, django_assert_num_queries: Any
) -> None:
    settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None, "ROLES": None}

    # The user, and last_login where the model has it.
    answer = client.login(NAME)

    assert list(answer.json()) == ["access_token", "token_type", "expires_in"]
    assert not LoginSession.objects.exists()
    with django_assert_num_queries(0):
        whoami = client.whoami(answer.json()["access_token"])
    assert whoami.status_code == 200
    assert "sid" not in whoami.json()["claims"]
    with django_assert_num_queries(1):
        assert client.call("get", "/profile/", token=answer.json()["access_token"]).json() == {
            "name": NAME
        }
    for method, path in [
        ("post", "/auth/refresh/"),
        ("post", "/auth/logout/"),
        ("get", "/auth/sessions/"),
        ("delete", "/auth/sessions/"),
        ("delete", f"/auth/sessions/{'0' * 8}-0000-4000-8000-{'0' * 12}/"),
    ]:
        gone = client.call(method, path, token=answer.json()["access_token"])
        assert gone.status_code == 404, path
        assert gone.headers["Cache-Control"] == "no-store"
        assert gone.headers["Content-Type"] == "application/json"


def test_a_token_without_a_session_outlives_nobody(
    settings: Any, user: Any, client: JSONClient
) -> None:
    settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
    token = client.login(NAME).json()["access_token"]

    user.delete()

    answer = client.call("get", "/profile/", token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


def test_wrong_password_unknown_user_and_no_password_look_alike(
    user: Any, make_user: Any, client: JSONClient
) -> None:
    unusable = make_user("grace@example.com")
    unusable.set_unusable_password()
    unusable.save()

    answers = [
        client.login(NAME, "wrong"),
        client.login("nobody@example.com"),
        client.login("grace@example.com"),
        client.login(NAME, PASSWORD.strip()),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(answer.headers) for answer in answers}) == 1
    assert not LoginSession.objects.exists()


def test_the_row_of_a_hidden_user_is_found(user: Any, client: JSONClient) -> None:
    if not hasattr(user, "on_leave"):
        pytest.skip("no manager of this model hides rows")
    token = client.login(NAME).json()["access_token"]
    get_user_model()._base_manager.update(on_leave=True)

    assert client.call("get", "/profile/", token=token).json() == {"name": NAME}


def test_a_deleted_user_is_noticed_when_the_row_is_touched(user: Any, client: JSONClient) -> None:
    pair = client.login(NAME).json()

    user.delete()

    for answer in (
        client.call("get", "/profile/", token=pair["access_token"]),
        client.whoami(pair["access_token"]),
        client.refresh(pair["refresh_token"]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    row = LoginSession.objects.get()
    assert (row.user, row.revoked_reason) == (None, sessions.USER_DELETED)
