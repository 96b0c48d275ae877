"""Keys are changed while two deployments serve side by side, and no token is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.conftest import PASSWORD, private_pem

ROUNDS = 4
OLD_SECRET = "the-old-secret-key-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDE"
NEW_SECRET = "the-new-secret-key-9876543210-zyxwvutsrqponmlkjihgfedcba-EDCBA"


def pem(kind: str) -> str:
    """Return a private key of *kind*."""
    return private_pem(kind).decode()


def jwt_auth(**settings: Any) -> dict[str, Any]:
    """Return settings of the app alone."""
    return {"JWT_AUTH": settings}


def secrets(first: str, *fallbacks: str) -> dict[str, Any]:
    """Return settings with other secrets."""
    return {"SECRET_KEY": first, "SECRET_KEY_FALLBACKS": list(fallbacks)}


RSA, EC, ED = pem("RSA-2048"), pem("P-256"), pem("Ed25519")
PLANS: dict[str, list[dict[str, Any]]] = {
    "RS256 to EdDSA": [
        jwt_auth(SIGNING_KEY=RSA),
        jwt_auth(SIGNING_KEY=RSA, VERIFYING_KEYS=[ED]),
        jwt_auth(SIGNING_KEY=ED, VERIFYING_KEYS=[RSA]),
        jwt_auth(SIGNING_KEY=ED),
    ],
    "the derived HS256 to ES256": [
        jwt_auth(),
        jwt_auth(VERIFYING_KEYS=[EC]),
        jwt_auth(SIGNING_KEY=EC, VERIFYING_KEYS=[None]),
        jwt_auth(SIGNING_KEY=EC),
    ],
    "encryption on, to another key, and off": [
        jwt_auth(SIGNING_KEY=ED),
        jwt_auth(SIGNING_KEY=ED, DECRYPTION_KEYS=[EC]),
        jwt_auth(SIGNING_KEY=ED, ENCRYPTION_KEY=EC, DECRYPTION_KEYS=[None]),
        jwt_auth(SIGNING_KEY=ED, ENCRYPTION_KEY=EC),
        jwt_auth(SIGNING_KEY=ED, ENCRYPTION_KEY=EC, DECRYPTION_KEYS=[RSA]),
        jwt_auth(SIGNING_KEY=ED, ENCRYPTION_KEY=RSA, DECRYPTION_KEYS=[EC]),
        jwt_auth(SIGNING_KEY=ED, ENCRYPTION_KEY=RSA),
        jwt_auth(SIGNING_KEY=ED, ENCRYPTION_KEY=RSA, DECRYPTION_KEYS=[None]),
        jwt_auth(SIGNING_KEY=ED, DECRYPTION_KEYS=[RSA]),
        jwt_auth(SIGNING_KEY=ED),
    ],
    "SECRET_KEY": [
        secrets(OLD_SECRET),
        secrets(OLD_SECRET, NEW_SECRET),
        secrets(NEW_SECRET, OLD_SECRET),
        secrets(NEW_SECRET),
    ],
}


class Deployment:
    """A server process with settings of its own."""

    def __init__(self, process: Any) -> None:
        self.port = int(process.stdout.readline())

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Send a request; return status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer


@pytest.mark.parametrize("plan", PLANS)
def test_no_token_is_refused_at_any_step(
    user: User, plan: str, start_python: Callable[..., Any], outcome: Callable[..., None]
) -> None:
    def deploy(settings: dict[str, Any]) -> Any:
        return start_python(
            "-m",
            "tests.proof.server",
            JWT_AUTH_PROOF_SETTINGS=json.dumps(settings),
            # Every refresh rotates: hours pass between the steps of a real change.
            JWT_AUTH_PROOF_GRACE="0",
        )

    steps = PLANS[plan]
    calls = 0
    pair: Any = None
    running = Deployment(deploy(steps[0]))
    for step in steps[1:]:
        following = Deployment(deploy(step))
        for turn in range(ROUNDS):
            here, there = (running, following) if turn % 2 else (following, running)
            if pair is None or turn == 1:
                credentials = {"username": user.username, "password": PASSWORD}
                status, fresh = here.call("POST", "/auth/login/", credentials)
                assert status == 200, fresh
                pair = pair or fresh
                assert there.call("GET", "/profile/", token=fresh["access_token"])[0] == 200
            for one in (here, there):
                status, answer = one.call("GET", "/profile/", token=pair["access_token"])
                assert status == 200, answer
            status, pair = there.call(
                "POST", "/auth/refresh/", {"refresh_token": pair["refresh_token"]}
            )
            assert status == 200, pair
            calls += 4
        # The old deployment is gone, and time passes until everybody has refreshed.
        body = {"refresh_token": pair["refresh_token"]}
        status, pair = following.call("POST", "/auth/refresh/", body)
        assert status == 200, pair
        running = following
    outcome(f"a rolling change of keys: {plan}", calls, "no token refused at any step")


def test_the_steps_are_needed(user: User, start_python: Callable[..., Any]) -> None:
    old, new = (
        Deployment(
            start_python("-m", "tests.proof.server", JWT_AUTH_PROOF_SETTINGS=json.dumps(one))
        )
        for one in (jwt_auth(SIGNING_KEY=RSA), jwt_auth(SIGNING_KEY=ED))
    )
    credentials = {"username": user.username, "password": PASSWORD}
    token = old.call("POST", "/auth/login/", credentials)[1]["access_token"]
    assert new.call("GET", "/profile/", token=token)[1]["code"] == "token_not_valid"
