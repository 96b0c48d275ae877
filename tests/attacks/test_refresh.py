"""Rows 92 to 109: what a thief makes of a refresh token, and of the table it is not in."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jwt_auth import sessions, verify
from jwt_auth.errors import Throttled
from jwt_auth.models import LoginSession
from tests.attacks.conftest import Target
from tests.attacks.forge import SECRET, b64
from tests.conftest import PASSWORD, Clock, JSONClient
from tests.test_login import BODIES
from tests.test_receivers import change_password, deactivate

REFRESH = "/auth/refresh/"


def derived(secret: str, purpose: str = "refresh_token") -> bytes:
    """Derive a key as Django's `salted_hmac` does."""
    key = hashlib.sha256(f"jwt_auth.{purpose}{secret}".encode()).digest()
    return hmac.digest(key, b"key", "sha256")


def forged(key: bytes, handle: bytes, generation: int = 0, version: int = 1) -> str:
    """Make a refresh token."""
    key_id = hmac.digest(key, b"key id", "sha256")[:4]
    body = bytes([version]) + key_id + handle + generation.to_bytes(4)
    return "jwtr_" + b64(body + hmac.digest(key, body, "sha256"))


def handle_of(raw: str) -> bytes:
    """Return the random part of a refresh token."""
    return urlsafe_b64decode(raw.removeprefix("jwtr_"))[5:21]


@pytest.fixture
def eve(make_user: Any) -> User:
    user: User = make_user("eve")
    return user


@pytest.fixture
def pair(target: Target, eve: User) -> sessions.TokenPair:
    """A pair of eve's. Ada, whose token `target` has, must notice nothing."""
    return sessions.start(eve)


def refused(answer: Any, code: str) -> None:
    """Demand a refusal with *code*."""
    assert (answer.status_code, answer.json()["code"]) == (401, code), answer.content
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
    assert answer.headers["Cache-Control"] == "no-store"


class TestForgery:
    """Rows 98 to 100: neither the table nor ``SECRET_KEY`` nor both make a token."""

    @pytest.fixture(autouse=True)
    def the_forge_works(self, pair: sessions.TokenPair, settings: Any) -> None:
        raw = pair.refresh_token or ""
        assert forged(derived(settings.SECRET_KEY), handle_of(raw)) == raw

    def test_no_other_key_makes_a_token(
        self, target: Target, client: JSONClient, pair: sessions.TokenPair, settings: Any
    ) -> None:
        handle = handle_of(pair.refresh_token or "")
        keys = [
            b"",
            SECRET,
            settings.SECRET_KEY.encode(),
            derived(settings.SECRET_KEY, "access_token"),
            derived(settings.SECRET_KEY, "password_mark"),
            derived("another-secret-key-0123456789-abcdefghijklmnop"),
        ]
        for key in keys:
            raw = forged(key, handle)
            answer = target.survives(lambda: client.refresh(raw), secrets=[raw])  # noqa: B023
            refused(answer, "refresh_not_valid")

    def test_the_table_and_the_secret_key_together_make_none(
        self, target: Target, client: JSONClient, pair: sessions.TokenPair, settings: Any
    ) -> None:
        row = LoginSession.objects.get(pk=pair.session_id)
        known = [
            row.pk.bytes,
            row.pk.bytes_le,
            hashlib.sha256(row.pk.bytes).digest()[:16],
            hashlib.md5(row.pk.bytes).digest(),  # noqa: S324
            bytes.fromhex(row.password_mark),
            b"\x00" * 16,
        ]
        for handle in known:
            raw = forged(derived(settings.SECRET_KEY), handle)
            answer = target.survives(lambda: client.refresh(raw), secrets=[raw])  # noqa: B023
            refused(answer, "session_ended")
        assert client.refresh(pair.refresh_token).status_code == 200

    def test_a_copy_of_the_database_holds_no_token(
        self, client: JSONClient, pair: sessions.TokenPair
    ) -> None:
        second = client.refresh(pair.refresh_token).json()["refresh_token"]
        rows = [model._base_manager.values_list() for model in apps.get_models()]
        dump = repr([list(found) for found in rows]).lower()
        assert str(pair.session_id) in dump
        for raw in (pair.refresh_token or "", second):
            content = urlsafe_b64decode(raw.removeprefix("jwtr_"))
            parts = [raw.encode(), content, handle_of(raw), content[-32:]]
            parts += [hashlib.sha256(one).digest() for one in parts]
            for one in parts:
                spelled = [b64(one), one.hex(), repr(one)[2:-1], one.decode("latin-1")]
                assert not any(text.lower() in dump for text in spelled)

    def test_an_access_token_does_not_show_the_handle(self, pair: sessions.TokenPair) -> None:
        claims = dict(verify(pair.access_token))
        handle = handle_of(pair.refresh_token or "")
        text = json.dumps(claims)
        assert claims["sid"] in text
        assert not any(one in text for one in (handle.hex(), str(UUID(bytes=handle)), b64(handle)))

    def test_refusals_look_alike_before_the_mac_has_held(
        self, target: Target, client: JSONClient, pair: sessions.TokenPair, settings: Any
    ) -> None:
        genuine = pair.refresh_token or ""
        key, handle = derived(settings.SECRET_KEY), handle_of(genuine)
        other = derived("another-secret-key-0123456789-abcdefghijklmnop")
        hostile = {
            "malformed": "x",
            "the prefix": "jwtr_",
            "forged": "jwtr_" + "A" * 76,
            "another MAC": genuine[:-4] + "AAAA",
            "of a project elsewhere": forged(other, handle),
            "of another version": forged(key, handle, version=2),
            "padded": f"{genuine}=",
            "another spelling": genuine.replace("jwtr_", "JWTR_"),
            "a space": f" {genuine}",
            "a line feed": f"{genuine}\n",
            "twice": genuine * 2,
            "a surrogate": f"{genuine[:-1]}\ud800",
            "NUL": f"{genuine}\x00",
            "an access token": pair.access_token,
            "an unsigned one": "eyJhbGciOiJub25lIn0.e30.",
            "as long as a body may be": "jwtr_" + "A" * 60_000,
        }
        seen = set()
        for raw in hostile.values():
            with CaptureQueriesContext(connection) as queries:
                client.refresh(raw)
            assert len(queries) == 0
            answer = target.survives(lambda: client.refresh(raw))  # noqa: B023
            refused(answer, "refresh_not_valid")
            seen.add((answer.content, tuple(answer.headers.items())))
        assert len(seen) == 1
        assert client.refresh(genuine).status_code == 200

    def test_the_mac_is_compared_in_constant_time(
        self, pair: sessions.TokenPair, client: JSONClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared: list[tuple[bytes, bytes]] = []
        compare = hmac.compare_digest

        def watched(one: Any, other: Any) -> bool:
            compared.append((one, other))
            return compare(one, other)

        raw = pair.refresh_token or ""
        mac = urlsafe_b64decode(raw.removeprefix("jwtr_"))[-32:]
        with monkeypatch.context() as patched:
            patched.setattr("jwt_auth.tokens.refresh.hmac.compare_digest", watched)
            client.refresh(raw[:-1] + ("A" if raw[-1] != "A" else "B"))
        assert mac in [one for both in compared for one in both]


OVER: dict[str, Callable[[User, sessions.TokenPair, Clock], Any]] = {
    "logged out": lambda eve, pair, clock: sessions.end(pair.session_id),  # type: ignore[arg-type]
    "all ended": lambda eve, pair, clock: sessions.end_all(eve),
    "idle": lambda eve, pair, clock: clock.move(days=14),
    "beyond its absolute end": lambda eve, pair, clock: clock.move(days=90),
    "deactivated": lambda eve, pair, clock: deactivate(eve),
    "password changed": lambda eve, pair, clock: change_password(eve),
    "deactivated in bulk": lambda eve, pair, clock: User.objects.filter(pk=eve.pk).update(
        is_active=False
    ),
    "password changed in bulk": lambda eve, pair, clock: User.objects.filter(pk=eve.pk).update(
        password="md5$salt$other"
    ),
    "deleted": lambda eve, pair, clock: eve.delete(),
    "purged": lambda eve, pair, clock: LoginSession.objects.filter(pk=pair.session_id).delete(),
}


@pytest.mark.parametrize("generation", ["the present one", "its predecessor"])
@pytest.mark.parametrize("over", OVER.values(), ids=OVER)
def test_whatever_ended_a_session_looks_alike(
    target: Target,
    client: JSONClient,
    user: User,
    eve: User,
    pair: sessions.TokenPair,
    clock: Clock,
    over: Any,
    generation: str,
) -> None:
    # In its grace the predecessor is good as well, and for no longer than the session.
    ended = sessions.start(eve)
    second = client.refresh(ended.refresh_token).json()["refresh_token"]
    raw = second if generation == "the present one" else ended.refresh_token
    assert client.refresh(raw).json()["refresh_token"] == second
    over(eve, ended, clock)
    target._genuine = sessions.start(user).access_token
    answer = target.survives(lambda: client.refresh(raw), secrets=[raw], but=[ended.session_id])
    refused(answer, "session_ended")
    assert answer.content == b'{"detail":"The session has ended.","code":"session_ended"}'
    assert set(answer.headers) == set(client.refresh("x").headers)


class TestThieves:
    """Rows 92 to 95: a rotation, and what a replay of it comes to."""

    def test_a_rotation_spends_by_its_last_statement(
        self, client: JSONClient, pair: sessions.TokenPair, settings: Any
    ) -> None:
        with CaptureQueriesContext(connection) as queries:
            answer = client.refresh(pair.refresh_token)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json()["refresh_token"] != pair.refresh_token
        statements = [one["sql"] for one in queries]
        changing = [one for one in statements if not one.startswith("SELECT")]
        assert changing == statements[-1:]
        assert changing[0].startswith("UPDATE")
        condition = changing[0].partition("WHERE")[2]
        for name in ("generation", "rotated_at", "revoked_at", "expires_at"):
            assert name in condition

    @pytest.mark.parametrize("replayed", ["replaced", "two generations old"])
    def test_a_replay_ends_its_session_and_no_other(
        self,
        target: Target,
        client: JSONClient,
        user: User,
        eve: User,
        pair: sessions.TokenPair,
        clock: Clock,
        replayed: str,
    ) -> None:
        elsewhere = sessions.start(eve)
        second = client.refresh(pair.refresh_token).json()
        clock.move(seconds=121)
        if replayed == "two generations old":
            second = client.refresh(second["refresh_token"]).json()
        third = client.refresh(elsewhere.refresh_token).json()
        target._genuine = sessions.start(user).access_token
        answer = target.survives(
            lambda: client.refresh(pair.refresh_token),
            secrets=[pair.refresh_token or ""],
            but=[pair.session_id],
        )
        refused(answer, "refresh_reused")
        for raw in (second["refresh_token"], pair.refresh_token):
            answer = target.survives(lambda: client.refresh(raw))  # noqa: B023
            refused(answer, "session_ended")
        answer = target.survives(lambda: client.whoami(second["access_token"]))
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
        # The victim's other device goes on.
        assert client.whoami(third["access_token"]).status_code == 200
        assert client.refresh(third["refresh_token"]).status_code == 200

    def test_a_replay_within_the_grace_leads_nowhere_else(
        self, target: Target, client: JSONClient, pair: sessions.TokenPair, clock: Clock
    ) -> None:
        second = client.refresh(pair.refresh_token).json()["refresh_token"]
        clock.move(seconds=120)
        for raw in (pair.refresh_token, second, pair.refresh_token):
            # Nothing is written, so there is no second child to go on with.
            answer = target.survives(lambda: client.refresh(raw))  # noqa: B023
            assert answer.json()["refresh_token"] == second

    def test_spent_limit_does_not_hide_a_replay(
        self, client: JSONClient, pair: sessions.TokenPair, clock: Clock
    ) -> None:
        stolen = pair.refresh_token
        second = client.refresh(stolen).json()["refresh_token"]
        clock.move(seconds=121)
        third = client.refresh(second).json()["refresh_token"]
        assert [client.refresh(third).status_code for _ in range(60)] == [200] * 59 + [429]
        refused(client.refresh(stolen), "refresh_reused")
        refused(client.refresh(third), "session_ended")


@pytest.mark.parametrize("over", OVER.values(), ids=OVER)
def test_spent_limit_does_not_hide_the_end(
    client: JSONClient,
    eve: User,
    pair: sessions.TokenPair,
    clock: Clock,
    over: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(session_id: UUID) -> None:
        raise Throttled(60)

    raw = client.refresh(pair.refresh_token).json()["refresh_token"]
    # Every window is spent, also the one into which the clock is moved.
    monkeypatch.setattr("jwt_auth.views.count_refresh", refuse)
    assert client.refresh(raw).status_code == 429
    over(eve, pair, clock)
    refused(client.refresh(raw), "session_ended")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("call", ["refresh", "logout"])
def test_a_bad_body_is_400(target: Target, client: JSONClient, call: str, body: Any) -> None:
    text = body.decode("latin-1") if isinstance(body, bytes) else body
    sent = text.replace("username", "refresh_token")
    raw = sent.encode("latin-1") if isinstance(body, bytes) else sent
    answer = target.survives(
        lambda: client.post(f"/auth/{call}/", raw, content_type="application/json")
    )
    # Text of any kind is a refresh token that is not genuine.
    assert answer.status_code in {400, {"refresh": 401, "logout": 204}[call]}
    assert answer.headers["Cache-Control"] == "no-store"
    assert not answer.cookies


def test_a_refresh_token_travels_in_the_body_of_a_post(
    target: Target, client: JSONClient, pair: sessions.TokenPair
) -> None:
    raw = pair.refresh_token or ""
    secrets = [raw]
    for method in ("get", "head", "put", "patch", "delete"):
        answer = target.survives(
            lambda: getattr(client, method)(f"{REFRESH}?refresh_token={raw}"),  # noqa: B023
            secrets=secrets,
        )
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")
    for name in ("refresh_token", "refresh", "__Secure-refresh_token"):
        client.cookies[name] = raw
    places: list[Callable[[], Any]] = [
        lambda: client.call("post", f"{REFRESH}?refresh_token={raw}", {}),
        lambda: client.call("post", REFRESH, {}, token=raw),
        lambda: client.call("post", REFRESH, {"refresh": raw}),
        lambda: client.call("post", REFRESH, {"REFRESH_TOKEN": raw}),
    ]
    for send in places:
        answer = target.survives(send, secrets=secrets)
        assert answer.status_code == 400
    form = "application/x-www-form-urlencoded"
    answer = target.survives(
        lambda: client.post(REFRESH, f"refresh_token={raw}", content_type=form), secrets=secrets
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("behind", ["the middleware", "nothing"])
def test_a_refresh_belongs_to_the_user_of_the_token(
    user: User, eve: User, pair: sessions.TokenPair, settings: Any, behind: str
) -> None:
    if behind == "the middleware":
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "jwt_auth.middleware.JWTAuthenticationMiddleware",
        ]
    client = JSONClient()
    client.force_login(user)
    bearer = sessions.start(user).access_token
    answer = client.call("post", REFRESH, {"refresh_token": pair.refresh_token}, token=bearer)
    assert answer.status_code == 200
    claims = verify(answer.json()["access_token"])
    assert (claims.subject, claims.session_id) == (str(eve.pk), pair.session_id)
    assert LoginSession.objects.get(pk=pair.session_id).user == eve


WIDER = {
    "scope": "admin",
    "audience": "elsewhere",
    "aud": ["elsewhere"],
    "resource": "https://elsewhere.example",
    "roles": ["admins"],
    "claims": {"is_staff": True},
    "user": 1,
    "sub": "1",
    "grant_type": "password",
    "client_id": "another",
    "expires_in": 10**9,
}


def test_nothing_in_the_body_widens_a_session(client: JSONClient, pair: sessions.TokenPair) -> None:
    before = dict(verify(pair.access_token))
    answer = client.call("post", REFRESH, {"refresh_token": pair.refresh_token, **WIDER})
    assert answer.status_code == 200
    after = dict(verify(answer.json()["access_token"]))
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"jti"}
    assert answer.json()["expires_in"] == 300


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["login", "refresh"])
def test_without_the_table_nobody_gets_what_cannot_be_ended(
    make_user: Any, client: JSONClient, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    make_user("ada")
    raw = client.login().json()["refresh_token"]
    send = client.login if call == "login" else lambda: client.refresh(raw)
    with connection.schema_editor() as editor:
        editor.delete_model(LoginSession)
    try:
        answer = send()
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert "manage.py migrate --database default" in caplog.text
        for secret in (raw, PASSWORD, "jwtr_", "eyJ"):
            assert secret not in answer.text
        # The next one would only repeat it.
        caplog.clear()
        assert send().status_code == 503
        assert [one for one in caplog.records if one.name == "jwt_auth"] == []
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(LoginSession)
    assert client.login().status_code == 200
