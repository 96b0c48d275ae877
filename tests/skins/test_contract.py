"""The contract of all skins: each case of the table in contract.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jwt_auth import verify
from tests.attacks.forge import hs256
from tests.conftest import Clock
from tests.skins.contract import (
    DISTINCT,
    REPRESENTATIVES,
    ROWS,
    SKINS,
    Row,
    Skin,
    World,
    cases,
)
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


@pytest.mark.parametrize(
    ("row", "skin", "protocol"),
    [
        pytest.param(row, skin, protocol, id=f"{row.name}-{skin.name}-{protocol}")
        for row, skin, protocol in cases()
    ],
)
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


def test_names_in_the_table_are_unique_and_known() -> None:
    rows, skins = [row.name for row in ROWS], [skin.name for skin in SKINS]
    assert len(rows) == len(set(rows))
    assert len(skins) == len(set(skins))
    assert set(REPRESENTATIVES) <= set(rows)
    assert set(DISTINCT) <= set(skins)


def test_every_skin_meets_every_protocol_and_every_row_is_used() -> None:
    met = list(cases())
    assert {(skin.name, protocol) for _, skin, protocol in met} == {
        (skin.name, protocol) for skin in SKINS for protocol in PROTOCOLS
    }
    assert {row.name for row, _, _ in met} == {row.name for row in ROWS}
