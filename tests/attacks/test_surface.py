"""Row 175, and every row of B to E and M: one verdict at every door.

Each hostile token of the corpus goes through DRF, the middleware and the decorators, over
WSGI and ASGI with raw bytes, to projects with each kind of key, one or several. Run with
``--ds=tests.settings_uuid`` and ``--ds=tests.settings_bare`` for users whose keys are UUIDs
and strings, as ``tox -e attacks`` does.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection

from jwt_auth import sessions, verify
from jwt_auth.models import LoginSession
from tests.attacks.conftest import sibling
from tests.attacks.corpus import Maker, honest, hostile
from tests.attacks.forge import FORGES, b64
from tests.attacks.limits import Limits
from tests.attacks.sealing import SEALERS, SealedForge
from tests.conftest import Clock, private_pem
from tests.skins.contract import DISTINCT, SKINS
from tests.skins.servers import Answered, Headers, OneThread, asked_over_asgi, over_wsgi

OTHER_SECRET = {"kty": "oct", "k": b64(bytes(range(100, 164))), "kid": "k9"}
Send = Callable[[Iterable[bytes]], list[Answered]]
Doors = Callable[[Limits], Iterator[tuple[str, Send]]]


def one_key(kind: str) -> tuple[Maker, dict[str, Any]]:
    """Return who can make tokens for a project with one key, and its settings."""
    algorithm, _, sealed = kind.partition(" in ")
    forge = FORGES[algorithm]()
    if not sealed:
        return forge, {"SIGNING_KEY": forge.setting}
    sealer = SEALERS[sealed]()
    settings = {"SIGNING_KEY": forge.setting, "ENCRYPTION_KEY": sealer.setting}
    return SealedForge(forge, sealer), settings


def several_keys(kind: str) -> tuple[Maker, dict[str, Any]]:
    """Return the same for a project that also has keys of every other kind."""
    maker, settings = one_key(kind)
    used = [settings["SIGNING_KEY"], settings.get("ENCRYPTION_KEY")]
    kinds = ("RSA-2048", "P-256", "P-384", "Ed25519")
    # A key that opens tokens does not verify them as well.
    further = [OTHER_SECRET, *(pem for pem in map(private_pem, kinds) if pem not in used)]
    settings["VERIFYING_KEYS"] = further
    if "ENCRYPTION_KEY" in settings:
        opening = [one().setting for one in SEALERS.values()]
        settings["DECRYPTION_KEYS"] = [one for one in opening if one not in [*used, *further]]
    return maker, settings


KINDS = [*FORGES, *(f"HS256 in {name}" for name in SEALERS), "ES256 in dir"]
SET_UPS = [(kind, keys) for kind in KINDS for keys in (one_key, several_keys)]
if os.environ.get("JWT_AUTH_TEST_ATTACKS") is None:
    # All kinds take minutes: see tox.ini. test_encryption.py has encrypted tokens.
    SET_UPS = [("ES256", several_keys)]

# Of a text key every other text is another one: see the spellings below.
OF_A_NUMBER = {"a zero in front": "0{}", "a sign": "+{}", "a space": " {}", "a point": "{}.0"}
OF_A_UUID = {"braces": "{{{}}}", "a URN": "urn:uuid:{}", "a space": " {}"}
OF_A_TEXT = {"another case": "{}A", "a space": "{} ", "NUL": "{}\x00"}


def spellings() -> dict[str, str]:
    """Return subjects that a careless look-up takes for the user's key."""
    kind = get_user_model()._meta.pk.get_internal_type()
    return {"UUIDField": OF_A_UUID, "CharField": OF_A_TEXT}.get(kind, OF_A_NUMBER)


def bearing(raw: bytes) -> Headers:
    """Return the header that follows ``Bearer`` with *raw*."""
    return [(b"authorization", b"Bearer " + raw)]


@pytest.fixture
def doors(settings: Any, kept_connection: None) -> Doors:
    """Return each skin over each protocol, as something that takes what follows ``Bearer``.

    Each of the requests keeps the limits.
    """
    settings.ROOT_URLCONF = "tests.skins.urls"
    skins = {skin.name: skin for skin in SKINS}

    def each(limits: Limits) -> Iterator[tuple[str, Send]]:
        for name in DISTINCT:
            skin = skins[name]
            settings.MIDDLEWARE = list(skin.middleware)
            path = skin.path.format("any")
            wsgi, asgi = WSGIHandler(), OneThread()

            def by_wsgi(
                raws: Iterable[bytes], path: str = path, handler: Any = wsgi
            ) -> list[Answered]:
                answers = []
                for raw in raws:
                    with limits:
                        answers.append(over_wsgi("GET", path, bearing(raw), handler))
                return answers

            # All on one loop: to begin a loop takes longer than the request.
            @async_to_sync
            async def by_asgi(
                raws: Iterable[bytes], path: str = path, handler: Any = asgi
            ) -> list[Answered]:
                answers = []
                for raw in raws:
                    with limits:
                        answers.append(await asked_over_asgi("GET", path, bearing(raw), handler))
                return answers

            yield f"{name} over WSGI", by_wsgi
            yield f"{name} over ASGI", by_asgi

    return each


def siblings(maker: Maker, tokens: Iterable[bytes]) -> Iterator[bytes]:
    """Return the first two segments of *tokens*, which are hostile, signed by the key."""
    sealed = isinstance(maker, SealedForge)
    forge = maker.forge if isinstance(maker, SealedForge) else maker
    for raw in tokens:
        text = raw.decode("utf-8", "surrogateescape")
        genuine = sibling(forge, text) if text.count(".") == 2 else None
        if genuine is not None and genuine.isascii():
            yield (maker.sealer.seal(genuine) if sealed else genuine).encode()


@contextmanager
def no_queries() -> Iterator[None]:
    """Demand that nobody asks the database."""

    def refuse(execute: Any, sql: str, *more: Any) -> Any:
        raise AssertionError(f"a query: {sql}")

    with connection.execute_wrapper(refuse):
        yield


def rows() -> list[Any]:
    """Return all that a request might change."""
    users = get_user_model().objects.order_by("pk").values_list()
    return [*users, *LoginSession.objects.order_by("pk").values_list()]


@pytest.mark.parametrize(
    ("kind", "keys"), SET_UPS, ids=[f"{kind}-{keys.__name__}" for kind, keys in SET_UPS]
)
def test_every_door_refuses_alike(
    kind: str,
    keys: Any,
    user: Any,
    settings: Any,
    clock: Clock,
    doors: Doors,
    record_property: Callable[[str, str], None],
) -> None:
    maker, settings.JWT_AUTH = keys(kind)
    claims = dict(verify(sessions.start(user).access_token))
    tokens = hostile(maker, claims)
    good = {name: raw.encode() for name, raw in honest(maker, claims).items()}
    genuine = list(siblings(maker, tokens.values()))
    before, began = rows(), time.perf_counter()
    limits = Limits()
    verdicts: dict[str, set[tuple[int, str]]] = {name: set() for name in tokens}
    for count, (door, send) in enumerate(doors(limits), start=1):
        limits.traced = count <= 2  # What a token costs is decided below the skins.
        for name, (status, _, body) in zip(good, send(good.values()), strict=True):
            assert (status, json.loads(body)["user"]) == (200, "ada"), (door, name)
        with no_queries():
            answers = send(tokens.values())
        for (name, raw), (status, headers, body) in zip(tokens.items(), answers, strict=True):
            code = json.loads(body).get("code")
            verdicts[name].add((status, code))
            assert status in (400, 401), (door, name, status)
            assert headers["WWW-Authenticate"].startswith('Bearer realm="api", error='), name
            assert len(raw) < 20 or raw not in body, (door, name)
        assert send([good["as issued"]])[0][0] == 200, door
        if count == 1:
            # The process has seen them all. Now it sees what begins like them, signed by the
            # key: from here on nothing may be let in that is not remembered letter by letter.
            let_in = sum(status == 200 for status, _, _ in send(genuine))
            assert let_in > 0 or isinstance(maker, SealedForge)
    told_apart = {name: found for name, found in verdicts.items() if len(found) != 1}
    assert told_apart == {}
    expected = {
        name: {(401, "token_expired")}
        if name == "expired"
        else {(401, "token_not_valid"), (400, "invalid_request")}
        for name in tokens
    }
    assert {name: found for name, found in verdicts.items() if not found <= expected[name]} == {}
    assert rows() == before
    codes = Counter(code for found in verdicts.values() for _, code in found)
    record_property(
        "summary",
        f"{get_user_model()._meta.pk.get_internal_type()}, {kind}, {keys.__name__}: "
        f"{len(tokens)} hostile tokens at {count} doors, 0 let in "
        f"({', '.join(f'{number} {code}' for code, number in sorted(codes.items()))}); "
        f"slowest {limits.seconds * 1000:.0f} ms, most memory {limits.memory / 1e6:.1f} MB; "
        f"{len(good)} honest ones let in; {time.perf_counter() - began:.1f} s",
    )


def test_a_subject_has_one_spelling(user: Any, settings: Any, clock: Clock, doors: Doors) -> None:
    maker, settings.JWT_AUTH = one_key("HS256")
    claims = dict(verify(sessions.start(user).access_token))
    subjects = {name: spelled.format(claims["sub"]) for name, spelled in spellings().items()}
    others = [maker.token({**claims, "sub": subject}).encode() for subject in subjects.values()]
    for door, send in doors(Limits()):
        good, *answers = send([maker.token(claims).encode(), *others])
        assert good[0] == 200
        for name, (status, _, body) in zip(subjects, answers, strict=True):
            found = (status, json.loads(body)["code"])
            assert found == (401, "token_not_valid"), (door, name)
