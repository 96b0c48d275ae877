"""Rows 175 to 180: what an attacker gains from order, paths, threads and the event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.http import JsonResponse
from django.test import Client
from django.urls import path

from jwt_auth import sessions
from jwt_auth.decorators import jwt_exempt, jwt_required
from tests.conftest import PASSWORD, JSONClient, private_pem
from tests.remote.provider import Held, Provider, body, running
from tests.skins import urls as skin_urls
from tests.skins.contract import AUTHENTICATION, LOGIN, OURS, SESSION
from tests.skins.servers import asked_over_asgi, over_asgi, over_wsgi

pytestmark = pytest.mark.usefixtures("kept_connection")

BELOW = [*SESSION, AUTHENTICATION, OURS]
ABOVE = [*SESSION, OURS, AUTHENTICATION]


def both(request: Any) -> JsonResponse:
    """Answer whom the request names, by either name."""
    return JsonResponse([str(request.user), str(async_to_sync(request.auser)())], safe=False)


async def aboth(request: Any) -> JsonResponse:
    """Answer the same on the event loop."""
    named = await request.auser()
    # Of a session cookie, the first is Django's own and asks the database when it is looked at.
    return JsonResponse([await sync_to_async(str)(request.user), str(named)], safe=False)


urlpatterns = [
    *skin_urls.urlpatterns,
    path("both/sync/", both),
    path("both/async/", aboth),
    path("guarded/sync/", jwt_required(both)),
    path("guarded/async/", jwt_required(aboth)),
    path("open/sync/", jwt_exempt(both)),
    path("open/async/", jwt_exempt(aboth)),
]


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = BELOW
    return settings


@pytest.fixture
def cookie(db: None) -> bytes:
    """Return the session cookie of grace, who has signed in by Django's own means."""
    client = Client()
    client.force_login(get_user_model().objects.create_user("grace", password=PASSWORD))
    return f"sessionid={client.cookies['sessionid'].value}".encode()


SENT: dict[str, tuple[str | None, bool, str]] = {
    # The token, whether grace's cookie comes along, and who it is.
    "a token": ("good", False, "ada"),
    "a token beside a cookie": ("good", True, "ada"),
    "a cookie": (None, True, "grace"),
    "nothing": (None, False, "AnonymousUser"),
    "a refused token": ("x.y.z", False, "AnonymousUser"),
    "a refused token beside a cookie": ("x.y.z", True, "AnonymousUser"),
    "an ended session beside a cookie": ("ended", True, "AnonymousUser"),
}


@pytest.mark.parametrize("order", [BELOW, ABOVE], ids=["below", "above"])
@pytest.mark.parametrize("send", [over_wsgi, over_asgi], ids=["WSGI", "ASGI"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(("token", "with_cookie", "who"), SENT.values(), ids=SENT)
def test_both_names_of_the_user_mean_one(
    user: Any,
    project: Any,
    cookie: bytes,
    order: list[str],
    send: Any,
    kind: str,
    token: str | None,
    with_cookie: bool,
    who: str,
) -> None:
    project.MIDDLEWARE = order
    headers = [(b"cookie", cookie)] if with_cookie else []
    if token is not None:
        pair = sessions.start(user)
        if token == "ended":
            sessions.end_all(user)
        raw = token if token == "x.y.z" else pair.access_token
        headers.append((b"authorization", f"Bearer {raw}".encode()))
    # An exempt view is entered with a refused token too, and sees nobody.
    status, _, body = send("GET", f"/open/{kind}/", headers)
    assert (status, json.loads(body)) == (200, [who, who])
    status, _, body = send("GET", f"/both/{kind}/", headers)
    if token in {"x.y.z", "ended"}:
        assert status == 401
    else:
        assert (status, json.loads(body)) == (200, [who, who])
    status, _, body = send("GET", f"/guarded/{kind}/", headers)
    if who == "ada":
        assert (status, json.loads(body)) == (200, ["ada", "ada"])
    else:
        assert status == 401


PATHS = [
    "/exempt/sync/../../plain/sync/any/",
    "/exempt/sync/..%2f..%2fplain/sync/any/",
    "/exempt/sync/;/../plain/sync/any/",
    "/exempt/sync//plain/sync/any/",
    "//plain/sync/any/",
    "/./plain/sync/any/",
    "/PLAIN/sync/any/",
    "/plain/sync/any/exempt/sync/",
    "/plain/sync/any/#/exempt/sync/",
    "/plain/sync/any/\x00",
    "/plain/sync/any",
    "/auth/login/../../plain/sync/any/",
    "/plain/sync/any/",
]


@pytest.mark.django_db
@pytest.mark.parametrize("order", [BELOW, [*BELOW, LOGIN]], ids=["middleware", "LoginRequired"])
@pytest.mark.parametrize("send", [over_wsgi, over_asgi], ids=["WSGI", "ASGI"])
@pytest.mark.parametrize("where", PATHS)
def test_no_spelling_of_a_path_makes_a_view_exempt(
    project: Any, cookie: bytes, order: list[str], send: Any, where: str
) -> None:
    project.MIDDLEWARE = order
    headers = [(b"cookie", cookie), (b"authorization", b"Bearer x.y.z")]
    # The view that is exempt is reached; by its name alone.
    assert send("GET", "/open/sync/", headers)[0] == (302 if LOGIN in order else 200)
    status, _, body = send("GET", where, headers)
    assert status == (401 if where == "/plain/sync/any/" else 404)
    assert b"grace" not in body


@pytest.fixture
def slow(settings: Any) -> Iterator[Provider]:
    """Return another issuer, which is trusted and holds its answer back."""
    with running(Provider()) as one:
        settings.DEBUG = True
        settings.JWT_AUTH = {
            "SIGNING_KEY": private_pem("RSA-2048"),
            "TRUSTED_ISSUERS": one.settings(),
        }
        held = Held(body(b"x"))
        one.answers["/jwks.json"] = held
        yield one
        held.release()


@pytest.mark.usefixtures("quiet_heap")
def test_strangers_with_unknown_keys_do_not_stop_the_event_loop(
    user: Any, slow: Provider, cookie: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    own = sessions.start(user).access_token
    strangers = [slow.token(kid=f"k{number}") for number in range(20)]

    async def status(raw: str, where: str) -> int:
        headers = [(b"cookie", cookie), (b"authorization", f"Bearer {raw}".encode())]
        found: int = (await asked_over_asgi("GET", where, headers))[0]
        return found

    @async_to_sync
    async def main() -> tuple[set[int], set[int], int]:
        loop = asyncio.get_running_loop()
        # As PYTHONASYNCIODEBUG does: what holds the loop for long is logged.
        loop.set_debug(True)
        loop.slow_callback_duration = 0.05
        kinds = ("/plain/async/any/", "/decorated/async/any/")
        waiting = [asyncio.ensure_future(status(raw, kinds[0])) for raw in strangers]
        held: Any = slow.answers["/jwks.json"]
        assert await asyncio.to_thread(held.arrived.wait, 30)
        served, meanwhile = set(), 0
        for number in range(40):
            served.add(await status(own, kinds[number % 2]))
            meanwhile += not any(one.done() for one in waiting)
        held.release()
        return served, set(await asyncio.gather(*waiting)), meanwhile

    with caplog.at_level(logging.WARNING, "asyncio"):
        served, refused, meanwhile = main()
    assert (served, refused) == ({200}, {503})
    assert meanwhile == 40
    assert slow.count() == 1
    slow_callbacks = [
        float(found[1])
        for record in caplog.records
        if record.name == "asyncio"
        and (found := re.search(r"took ([0-9.]+) seconds", record.getMessage()))
    ]
    # A busy machine stops the loop for a moment now and then.
    assert max(slow_callbacks, default=0) < 0.5
    assert len(slow_callbacks) <= 3


@pytest.mark.django_db
def test_a_preflight_asks_for_nothing_and_gets_nothing(client: JSONClient) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for where in ("/plain/sync/any/", "/plain/async/any/", "/drf/any/"):
        answer = client.options(where, headers=headers)
        assert answer.status_code == (401 if where == "/drf/any/" else 200)
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
