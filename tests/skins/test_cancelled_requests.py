"""Row 180: a client that leaves during a refresh loses nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asgiref.sync
import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User

from jwt_auth import sessions, verify
from jwt_auth.models import LoginSession
from tests.skins.servers import OneThread

pytestmark = pytest.mark.usefixtures("kept_connection")


@async_to_sync
async def refresh_and_leave(raw: str, hop: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Refresh over ASGI and cancel at the *hop*-th wait for a thread; tell if it came to it."""
    body = json.dumps({"refresh_token": raw}).encode()
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/auth/refresh/",
        "raw_path": b"/auth/refresh/",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "server": ("testserver", 80),
    }
    hops = 0
    original = asgiref.sync.SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal hops
        hops += 1
        if hops == hop:
            # The task that waits here is the one that the server would cancel.
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        return await original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(asgiref.sync.SyncToAsync, "__call__", counted)
        server = ApplicationCommunicator(OneThread(), scope)
        await server.send_input({"type": "http.request", "body": body, "more_body": False})
        try:
            await server.wait(5)
        except asyncio.CancelledError:
            pass
        else:
            assert server.output_queue.qsize() == 2 or hops >= hop
    return hops >= hop


@pytest.mark.parametrize("hop", range(1, 12))
def test_the_token_that_the_client_holds_still_works(
    user: User, hop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = sessions.start(user).refresh_token or ""

    refresh_and_leave(raw, hop, monkeypatch)

    assert LoginSession.objects.get().generation in {0, 1}
    assert LoginSession.objects.get().revoked_at is None
    pair = sessions.refresh(raw)
    assert verify(pair.access_token).session_id == pair.session_id
    assert LoginSession.objects.get().generation == 1


def test_there_is_something_to_cancel(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = sessions.start(user).refresh_token or ""
    assert refresh_and_leave(raw, 1, monkeypatch)
    assert not refresh_and_leave(raw, 12, monkeypatch)
