"""Every row of the contract against every skin, over WSGI and ASGI."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jwt_auth import verify
from tests.attacks.forge import hs256
from tests.conftest import Clock
from tests.skins.contract import ROWS, SKINS, Row, Skin, World
from tests.skins.servers import Answered, Headers, over_asgi, over_wsgi

PROTOCOLS: dict[str, Callable[[str, str, Headers], Answered]] = {
    "WSGI": over_wsgi,
    "ASGI": over_asgi,
}


@pytest.fixture
def world(
    db: None, kept_connection: None, clock: Clock, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> World:
    settings.ROOT_URLCONF = "tests.skins.urls"
    forge = hs256()
    settings.JWT_AUTH = {"SIGNING_KEY": forge.setting}
    return World(forge, clock, monkeypatch)


def send(world: World, row: Row, skin: Skin, protocol: str) -> Answered:
    """Let *row* happen and send its request."""
    world.begin(row.claims)
    world.claims = dict(verify(world.token))
    headers = [(b"cookie", world.grace_cookie().encode())] if row.cookie else []
    row.before(world)
    sent = row.credential(world)
    for value in sent if isinstance(sent, list) else [sent]:
        raw = value if isinstance(value, bytes) else value.encode()
        headers += [(b"authorization", raw)]
    return PROTOCOLS[protocol](row.method, skin.path.format(row.demand), headers)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("skin", SKINS, ids=lambda skin: skin.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_skin_keeps_the_contract(
    row: Row, skin: Skin, protocol: str, world: World, settings: Any
) -> None:
    settings.MIDDLEWARE = list(skin.middleware)
    expected = skin.answer(row)

    status, headers, body = send(world, row, skin, protocol)

    assert status == expected.status, body
    assert headers.get("WWW-Authenticate") == expected.challenge
    assert "authorization" in headers["Vary"].lower()
    if status == 302:
        return
    answer = json.loads(body)
    assert answer.get("code") == expected.code
    assert answer.get("user") == expected.user
    if expected.status != 200:
        assert world.token.encode() not in body
        assert "no-store" in headers.get("Cache-Control", "") or row.absent or status == 403
    if expected.status == 503:
        assert headers["Retry-After"] == "1"


def test_the_table_is_as_long_as_it_says() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert len({skin.name for skin in SKINS}) == len(SKINS)
