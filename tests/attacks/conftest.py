"""The project under attack, and the one way to attack it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jwt_auth import sessions, verify
from jwt_auth.models import LoginSession
from tests.attacks.forge import FORGES, SECRET, Forge, b64, to_json
from tests.attacks.limits import Limits
from tests.conftest import NOW, PASSWORD, Clock, JSONClient
from tests.remote.provider import AUDIENCE, ISSUER, public_jwk

# One's own key, and another issuer's.
SET_UPS = [*FORGES, *(f"{name} foreign" for name in FORGES if name != "HS256")]


def sibling(forge: Any, header: str) -> str | None:
    """Return *header* with a genuine signature of the same first two segments.

    `None` if it has one, or shows nothing that could be signed.
    """
    signed, point, _ = header.rpartition(".")
    if not point or "." not in signed or not isinstance(forge, Forge):
        return None
    scheme, space, signed = signed.rpartition(" ")
    try:
        genuine = f"{scheme}{space}{forge.sealed(signed)}"
    except UnicodeEncodeError:
        return None
    return None if genuine == header else genuine


class Target:
    """A project that verifies the tokens of one key, and a session to forge tokens of."""

    def __init__(
        self,
        forge: Forge,
        user: Any,
        client: JSONClient,
        caplog: Any,
        claims: dict[str, Any] | None = None,
    ) -> None:
        self.forge = forge
        self._client = client
        self._caplog = caplog
        own = sessions.start(user).access_token
        # Another issuer's token is made by the forge, for there is nobody else.
        self._genuine = own if claims is None else forge.token(claims)
        self.claims = dict(verify(own)) if claims is None else claims
        self.accepts(forge.token(self.claims))

    def having(self, **changes: Any) -> dict[str, Any]:
        """Return good claims with *changes*; `...` takes a claim out."""
        return {name: one for name, one in {**self.claims, **changes}.items() if one is not ...}

    def accepts(self, raw: str) -> None:
        """Demand that *raw* passes."""
        answer = self._client.whoami(raw)
        assert answer.status_code == 200, answer.content

    def refuses(self, raw: str, code: str = "token_not_valid") -> None:
        """Demand that *raw* is refused, and that nothing else happens."""
        self.refuses_header(f"Bearer {raw}", code, secrets=[raw])

    def refuses_header(self, header: str, *codes: str | None, secrets: Any = ()) -> Any:
        """Demand that a whole header is refused with one of *codes*."""
        before = self._rows()
        self._caplog.clear()
        with CaptureQueriesContext(connection) as queries, Limits():
            answer = self._send(header)
        code = answer.json().get("code")
        assert code in codes, answer.content
        # The process may remember tokens: what it has seen, and what begins alike.
        assert self._send(header).json().get("code") == code
        genuine = sibling(self.forge, header)
        if genuine is not None:
            self._send(genuine)
            assert self._send(header).json().get("code") == code
        assert answer.status_code == (400 if code == "invalid_request" else 401)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="api"')
        assert len(queries) == 0
        assert self._rows() == before
        for secret in secrets:
            if len(secret) > 20:
                assert secret not in answer.text
                assert secret not in self._caplog.text
        self.accepts(self._genuine)
        return answer

    def survives(
        self, send: Callable[[], Any], *, secrets: Collection[str] = (), but: Collection[Any] = ()
    ) -> Any:
        """Demand that the request which *send* makes harms nobody. Return its answer.

        No row of any table changes, *but* those of the sessions with these ids.
        """
        before = _everything(but)
        self._caplog.clear()
        with Limits():
            answer = send()
        assert answer.status_code < 500, answer.content
        assert _everything(but) == before
        for secret in (PASSWORD, SECRET.decode(), b64(SECRET), *secrets):
            assert secret not in answer.text
            assert secret not in self._caplog.text
        self.accepts(self._genuine)
        return answer

    def _send(self, header: str) -> Any:
        return self._client.get("/whoami/", HTTP_AUTHORIZATION=header)

    def _rows(self) -> list[Any]:
        users = get_user_model().objects.values_list().order_by("pk")
        return [*users, *LoginSession.objects.values_list().order_by("pk")]


def _everything(but: Collection[Any]) -> dict[str, list[Any]]:
    rows = {model._meta.label: model._base_manager.order_by("pk") for model in apps.get_models()}
    rows[LoginSession._meta.label] = LoginSession.objects.exclude(pk__in=but).order_by("pk")
    return {label: list(found.values_list()) for label, found in rows.items()}


@pytest.fixture(params=["HS256"])
def target(
    request: Any,
    user: Any,
    client: JSONClient,
    settings: Any,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Target:
    """Return the project that is set up as the test's parameter says; HS256 without one."""
    caplog.set_level(logging.DEBUG)
    algorithm, _, foreign = request.param.partition(" ")
    forge = FORGES[algorithm]()
    if not foreign:
        settings.JWT_AUTH = {"SIGNING_KEY": forge.setting}
        return Target(forge, user, client, caplog)
    published = {"keys": [public_jwk(forge.setting, kid=forge.kid)]}
    monkeypatch.setattr("jwt_auth.tokens.fetching.fetch", lambda url, max_size: to_json(published))
    trusted = {
        "JWKS_URL": "https://id.example/jwks.json",
        "AUDIENCE": AUDIENCE,
        "ALGORITHMS": [algorithm],
    }
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": {ISSUER: trusted}}
    now = int(NOW.timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "1", "jti": "x", "iat": now, "exp": now + 300}
    return Target(forge, user, client, caplog, claims)
