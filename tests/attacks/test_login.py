"""Rows 1 to 21: whoever has no password gets in by nothing, and learns nothing."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.urls import include, path

from jwt_auth import sessions, verify
from tests import urls as own_urls
from tests.attacks.conftest import Target
from tests.conftest import PASSWORD, Clock, JSONClient
from tests.test_login import Listener

urlpatterns = [
    *own_urls.urlpatterns,
    path(".well-known/", include("jwt_auth.urls.well_known")),
]

LOGIN = "/auth/login/"
MARK = "zqzq"

# As JSON: what no account and no password is, and what a database or a hasher may choke on.
TEXTS = {
    "NUL": f'"{MARK}\\u0000"',
    "a high surrogate": f'"{MARK}\\ud800"',
    "a low surrogate": f'"\\udfff{MARK}"',
    "surrogates in the wrong order": f'"{MARK}\\udc00\\ud800"',
    "list": f'["{MARK}"]',
    "list of nothing": "[]",
    "object": f'{{"$ne": "{MARK}"}}',
    "true": "true",
    "null": "null",
    "deep": "[" * 3000 + "]" * 3000,
    "a megabyte": f'"{MARK}{"x" * 1_000_000}"',
    "NaN": "NaN",
}
NUMBERS = {"number": "7", "negative": "-1", "fraction": "0.5", "1e400": "1e400", "no text": '""'}
FIELDS = [
    *((name, one) for name in ("username", "password") for one in {**TEXTS, **NUMBERS}.items()),
    *(("device", one) for one in TEXTS.items()),
]


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, (_, value) in FIELDS],
    ids=[f"{field}, {name}" for field, (name, _) in FIELDS],
)
def test_what_is_no_text_signs_nobody_in(
    target: Target, client: JSONClient, field: str, value: str
) -> None:
    members = {"username": '"ada"', "password": json.dumps(PASSWORD), field: value}
    body = "{" + ", ".join(f'"{name}": {text}' for name, text in members.items()) + "}"
    answer = target.survives(lambda: client.post(LOGIN, body, content_type="application/json"))
    assert answer.status_code in ({400, 401} if value in NUMBERS.values() else {400})
    assert answer.headers["Cache-Control"] == "no-store"
    assert not answer.cookies
    # A field error repeats nothing of what was sent.
    assert MARK not in answer.text


def test_the_lengths_are_limits_and_no_guesses(
    target: Target, client: JSONClient, make_user: Any
) -> None:
    eve = make_user("eve")
    eve.set_password("x" * 4096)
    eve.save()
    assert client.login("eve", "x" * 4096).status_code == 200
    for name, password in (("eve", "x" * 4097), ("e" * 255, "x")):
        answer = target.survives(lambda: client.login(name, password))  # noqa: B023
        assert answer.status_code == 400
    assert target.survives(lambda: client.login("e" * 254, "x")).status_code == 401


@pytest.mark.parametrize("call", ["login", "refresh", "logout"])
def test_a_body_that_is_too_big_is_not_looked_at(
    target: Target, client: JSONClient, user: User, call: str
) -> None:
    raw = sessions.start(user).refresh_token
    body = {"username": "ada", "password": PASSWORD, "refresh_token": raw}
    big = json.dumps({**body, "x": "x" * 10_000_000})
    send = client.post
    path = f"/auth/{call}/"
    answer = target.survives(lambda: send(path, big, content_type="application/json"))
    assert answer.status_code in {400, 413}
    # It was the size: without it, the same body is good.
    assert client.call("post", path, body).status_code in {200, 204}


class Careless(BaseBackend):
    """A backend of the project's own, that looks at the password and at nothing else."""

    def authenticate(self, request: Any, **credentials: Any) -> User | None:
        """Return whose password it is."""
        user = User.objects.filter(username=credentials["username"]).first()
        return user if user is not None and user.check_password(credentials["password"]) else None


BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "django.contrib.auth.backends.AllowAllUsersModelBackend",
    f"{__name__}.Careless",
]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda path: path.rpartition(".")[2])
def test_no_backend_lets_an_inactive_user_in(
    target: Target, client: JSONClient, make_user: Any, settings: Any, backend: str
) -> None:
    settings.AUTHENTICATION_BACKENDS = [backend]
    make_user("grace")
    make_user("eve", is_active=False)
    assert client.login("grace").status_code == 200
    wrong = target.survives(lambda: client.login("grace", "wrong"))
    inactive = target.survives(lambda: client.login("eve"))
    assert (inactive.status_code, inactive.json()["code"]) == (401, "invalid_credentials")
    assert (inactive.content, inactive.headers) == (wrong.content, wrong.headers)


class Slow(PBKDF2PasswordHasher):
    """Takes as long as hundreds of queries, so that the clock would tell of its absence."""

    iterations = 40_000


@pytest.mark.usefixtures("quiet_heap")
def test_the_clock_does_not_tell_who_is_there(
    db: None, make_user: Any, client: JSONClient, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = [f"{__name__}.Slow"]
    settings.JWT_AUTH = {"THROTTLE_RATES": None}
    make_user("ada")
    make_user("inactive", is_active=False)
    make_user("unusable")
    User.objects.filter(username="unusable").update(password="!")
    tries = {"ada": "wrong", "nobody": PASSWORD, "inactive": PASSWORD, "unusable": PASSWORD}

    def spread() -> float:
        taken: dict[str, list[float]] = {name: [] for name in tries}
        # In turn: whatever else the machine does slows all of them.
        for _ in range(50):
            for name, password in tries.items():
                began = time.perf_counter()
                status = client.login(name, password).status_code
                taken[name].append(time.perf_counter() - began)
                assert status == 401
        medians = [statistics.median(times) for times in taken.values()]
        return max(medians) / min(medians)

    # A busy machine spoils a measurement now and then; a hash less spoils every one.
    assert any(spread() < 1.2 for _ in range(5))


def test_a_failure_leaves_nothing_but_the_signal(target: Target, client: JSONClient) -> None:
    with Listener(user_login_failed) as failed, Listener(user_logged_in) as logged_in:
        for name in ("ada", "nobody"):
            answer = target.survives(lambda: client.login(name, "a wrong guess"))  # noqa: B023
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
            assert not answer.cookies
            assert "Set-Cookie" not in answer.headers
    assert [call["credentials"]["username"] for call in failed.calls] == ["ada", "nobody"]
    assert all("guess" not in str(call["credentials"]) for call in failed.calls)
    assert logged_in.calls == []


STALE: dict[str, Callable[[User, User, Clock], str]] = {
    "junk": lambda user, other, clock: "x.y.z",
    "malformed": lambda user, other, clock: "a b",
    "expired": lambda user, other, clock: expired(user, clock),
    "another user's": lambda user, other, clock: sessions.start(other).access_token,
    "of an ended session": lambda user, other, clock: ended(user),
    "a refresh token": lambda user, other, clock: sessions.start(other).refresh_token or "",
}


def expired(user: User, clock: Clock) -> str:
    """Return an access token that has had its time."""
    raw = sessions.start(user).access_token
    clock.move(minutes=10)
    return raw


def ended(user: User) -> str:
    """Return an access token of a session that was ended."""
    pair = sessions.start(user)
    assert pair.session_id is not None
    sessions.end(pair.session_id)
    return pair.access_token


CALLS = ["login", "refresh", "logout", "jwks", "metadata"]


def make_call(client: JSONClient, call: str, pair: sessions.TokenPair) -> Any:
    """Make a call that needs no access token."""
    if call == "login":
        return client.login()
    if call == "refresh":
        return client.refresh(pair.refresh_token)
    if call == "logout":
        return client.logout_with(pair.refresh_token)
    well_known = {"jwks": "jwks.json", "metadata": "oauth-authorization-server"}
    return client.get(f"/.well-known/{well_known[call]}")


@pytest.mark.parametrize("place", ["header", "cookie"])
@pytest.mark.parametrize("behind", ["the middleware", "nothing"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stale", STALE.values(), ids=STALE)
def test_a_stale_token_changes_no_answer(
    user: User,
    make_user: Any,
    settings: Any,
    clock: Clock,
    stale: Any,
    call: str,
    behind: str,
    place: str,
) -> None:
    settings.ROOT_URLCONF = __name__
    cookie = "__Secure-access_token"
    settings.JWT_AUTH = {"ISSUER": "https://id.example", "COOKIES": {"ACCESS": cookie}}
    if behind == "the middleware":
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.middleware.csrf.CsrfViewMiddleware",
            "jwt_auth.middleware.JWTAuthenticationMiddleware",
        ]
    raw = stale(user, make_user("eve"), clock)
    client = JSONClient(enforce_csrf_checks=True)
    without = make_call(client, call, sessions.start(user))
    assert without.status_code in {200, 204}
    pair = sessions.start(user)
    if place == "header":
        client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {raw}"
    else:
        client.cookies[cookie] = raw
    answer = make_call(client, call, pair)
    assert answer.status_code == without.status_code
    assert set(answer.headers) == set(without.headers)
    assert not answer.cookies
    if call in {"login", "refresh"}:
        assert answer.json().keys() == without.json().keys()
        assert verify(answer.json()["access_token"]).subject == str(user.pk)
    else:
        assert answer.content == without.content
