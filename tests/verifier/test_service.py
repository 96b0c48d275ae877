"""DRF, middleware and decorators in a project that has `DATABASES = {}`."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import connections
from django.test import AsyncClient

from jwt_auth.errors import TokenNotValid
from jwt_auth.runtime import current
from jwt_auth.tokens.access import SessionFacts
from tests.conftest import Clock, JSONClient, private_pem
from tests.remote.provider import ISSUER, Provider, body, running

TAKEN = ["orders", "open", "authenticated", "active", "mine", "plain", "awaited", "public"]
REFUSED = ["admin", "model", "role", "plain-role"]


@pytest.fixture
def issuer(settings: Any) -> Iterator[Provider]:
    """Return the issuer whose tokens the service verifies."""
    settings.DEBUG = True
    with running(Provider()) as provider:
        url = f"{provider.url}/revoked.jwt"
        settings.JWT_AUTH = {
            "LOAD_USER": "never",
            "TRUSTED_ISSUERS": provider.settings(REVOKED_URL=url),
        }
        provider.revoke()
        yield provider


def test_there_is_no_database() -> None:
    assert connections["default"].vendor == "unknown"


def test_the_checks_pass(issuer: Provider) -> None:
    call_command("check", stdout=io.StringIO())
    call_command("makemigrations", check=True, stdout=io.StringIO())


@pytest.mark.parametrize("place", TAKEN)
def test_a_token_of_the_issuer_is_taken(issuer: Provider, client: JSONClient, place: str) -> None:
    answer = client.call("get", f"/{place}/", token=issuer.token(sub="u7"))
    assert (answer.status_code, answer.json()["pk"]) == (200, "u7")


@pytest.mark.parametrize("place", TAKEN)
def test_and_under_asgi(issuer: Provider, place: str) -> None:
    headers = {"Authorization": f"Bearer {issuer.token(sub='u7')}"}
    answer = async_to_sync(AsyncClient().get)(f"/{place}/", headers=headers)
    assert (answer.status_code, answer.json()["pk"]) == (200, "u7")


@pytest.mark.parametrize("place", REFUSED)
def test_claims_grant_nothing_by_themselves(
    issuer: Provider, client: JSONClient, place: str
) -> None:
    token = issuer.token(is_staff=True, is_superuser=True, roles=["editors"], permissions=["x"])
    assert client.call("get", f"/{place}/", token=token).status_code == 403


@pytest.mark.parametrize("place", ["recent", "plain-recent"])
def test_a_recent_login(issuer: Provider, client: JSONClient, place: str) -> None:
    now = int(time.time())
    for ago, status in [(0, 200), (700, 401)]:
        token = issuer.token(auth_time=now - ago)
        assert client.call("get", f"/{place}/", token=token).status_code == status


def test_a_post_needs_no_csrf_token(issuer: Provider) -> None:
    client = JSONClient(enforce_csrf_checks=True)
    assert client.call("post", "/plain/", token=issuer.token()).status_code == 200
    assert client.call("post", "/public/").status_code == 403


@pytest.mark.parametrize("place", ["throttled", "scoped"])
def test_throttles_count_by_user(issuer: Provider, client: JSONClient, place: str) -> None:
    codes = [
        client.call("get", f"/{place}/", token=issuer.token(sub=f"{place}-{name}")).status_code
        for name in "aaabb"
    ]
    assert codes == [200, 200, 429, 200, 200]


@pytest.mark.parametrize("place", ["orders", "plain", "awaited"])
def test_refusals(issuer: Provider, client: JSONClient, clock: Clock, place: str) -> None:
    issuer.revoke()
    assert client.call("get", f"/{place}/").status_code == 401
    good = issuer.token(sid="s1")
    head, _, tail = good.rpartition(".")
    for token, code in [
        (f"{head}.{'B' if tail[0] == 'A' else 'A'}{tail[1:]}", "token_not_valid"),
        (issuer.token(aud="x"), "token_not_valid"),
        (issuer.token(exp=1), "token_expired"),
    ]:
        answer = client.call("get", f"/{place}/", token=token)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert client.call("get", f"/{place}/", token=good).status_code == 200
    issuer.revoke("s1")
    clock.move(seconds=7)
    answer = client.call("get", f"/{place}/", token=good)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    # The issuer is gone: the service goes on with what it knows, for as long as that is good.
    other = issuer.token(sid="s2")
    issuer.answers["/jwks.json"] = issuer.answers["/revoked.jwt"] = body(b"", 500)
    clock.move(seconds=50)
    assert client.call("get", f"/{place}/", token=other).status_code == 200
    clock.move(seconds=20)
    answer = client.call("get", f"/{place}/", token=other)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"]


def test_what_its_own_secret_key_signs_is_nothing(
    issuer: Provider, client: JSONClient, settings: Any
) -> None:
    raw = own_token()
    for place in ("orders", "role", "plain"):
        answer = client.call("get", f"/{place}/", token=raw)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    door = current().authenticator
    for check in (door.verify, async_to_sync(door.averify), door.unsafe_verify_expired):
        with pytest.raises(TokenNotValid):
            check(raw)
    # Whoever gives the service a key means it.
    settings.JWT_AUTH = {**settings.JWT_AUTH, "VERIFYING_KEYS": [private_pem("P-256")]}
    assert client.call("get", "/role/", token=own_token()).status_code == 200


def test_users_of_several_issuers(issuer: Provider, client: JSONClient, settings: Any) -> None:
    other = {**issuer.settings()[ISSUER], "JWKS_URL": f"{issuer.url}/other.json"}
    trusted = {**issuer.settings(), "https://other.example": other}
    settings.JWT_AUTH = {"LOAD_USER": "never", "TRUSTED_ISSUERS": trusted}
    assert client.call("get", "/orders/", token=issuer.token()).json()["pk"] == f"{ISSUER}|1"


def own_token() -> str:
    """Return a token that the service's own key has signed."""
    runtime = current()
    now = runtime.clock()
    facts = SessionFacts(uuid4(), now, ["pwd"], now + timedelta(days=1))
    issued = runtime.access_tokens.issue("7", now=now, session=facts, roles=["editors"], extra={})
    return issued.raw


def test_a_service_that_shares_the_key(client: JSONClient, settings: Any) -> None:
    settings.JWT_AUTH = {"LOAD_USER": "never"}
    for place in ("orders", "role", "plain-role"):
        answer = client.call("get", f"/{place}/", token=own_token())
        assert (answer.status_code, answer.json()["pk"]) == (200, "7")


def test_nobody(client: JSONClient) -> None:
    assert client.call("get", "/public/").json() == {"pk": AnonymousUser().pk}
