"""A server killed at any moment: whoever lost an answer asks again, and goes on."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any

from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from tests.proof.races import PATIENCE

# So many kills have to fall between the commit of a rotation and its answer.
LOST = int(os.environ.get("JWT_AUTH_PROOF_LOST", "50"))
VISITORS = 6
# A rotation rests for up to so long before its answer, and a server is killed up to so long
# after its first one.
PAUSE = 0.15
LONGEST_LIFE = 0.2

Answer = tuple[int, dict[str, Any]]


class Address:
    """Where the present server listens, and how many there were before it."""

    def __init__(self) -> None:
        self.number = 0
        self._port = 0
        self._served = 0
        self._changed = threading.Condition()

    def move(self, port: int) -> None:
        """Note that the next server listens on *port*."""
        with self._changed:
            self.number += 1
            self._port = port
            self._changed.notify_all()

    def note_answer(self, number: int) -> None:
        """Note that the server of this *number* has answered."""
        with self._changed:
            self._served = max(self._served, number)
            self._changed.notify_all()

    def wait_for_answer(self) -> None:
        """Wait until the present server has answered once: it may have to start slowly."""
        with self._changed:
            self._changed.wait_for(lambda: self._served == self.number, PATIENCE)

    def after(self, number: int) -> tuple[int, int]:
        """Return the number and the port of a server later than *number*; wait for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.number > number, PATIENCE), "no answer"
            return self.number, self._port


class Visitor:
    """A client with a session of its own. It refreshes, and repeats what was not answered."""

    def __init__(self, address: Address, user: User) -> None:
        pair = sessions.start(user)
        assert pair.refresh_token is not None
        self.raw = pair.refresh_token
        self.row = LoginSession.objects.filter(pk=pair.session_id)
        self.trades = 0
        # The numbers of the servers that were killed on the way to an answer.
        self.lost_before: list[int] = []
        self.lost_after: list[int] = []
        self._address = address

    def run(self, over: threading.Event) -> None:
        """Refresh again and again."""
        try:
            while not over.is_set():
                self._trade()
        finally:
            connections.close_all()

    def _trade(self) -> None:
        """Have ten minutes pass since the last rotation, and refresh until there is an answer."""
        self.row.update(rotated_at=timezone.now() - timedelta(minutes=10))
        number, lost, answer = 0, False, None
        while answer is None:
            number, port = self._address.after(number)
            committed = self._generation() > self.trades
            answer = _ask(port, "POST", "/auth/refresh/", {"refresh_token": self.raw})
            if answer is None and not committed:
                # Whatever the dead server has sent is done before the next one listens.
                self._address.after(number)
                committed = self._generation() > self.trades
                (self.lost_after if committed else self.lost_before).append(number)
                lost = lost or committed
        self._address.note_answer(number)
        status, body = answer
        assert status == 200, f"after {lost=}: {status} {body}"
        self.raw = body["refresh_token"]
        self.trades += 1
        assert current().refresh_tokens.read(self.raw).generation == self.trades
        if lost:
            self._use(body["access_token"])

    def _use(self, access_token: str) -> None:
        """Call a protected view."""
        number, answer = 0, None
        while answer is None:
            number, port = self._address.after(number)
            answer = _ask(port, "GET", "/whoami/", token=access_token)
        assert answer[0] == 200, answer

    def _generation(self) -> int:
        return self.row.get().generation


def _ask(
    port: int, method: str, path: str, body: Any = None, token: str | None = None
) -> Answer | None:
    """Return status and body of the answer, or `None` if there was none."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    http = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        http.request(method, path, None if body is None else json.dumps(body), headers)
        response = http.getresponse()
        if response.length is None:
            # The header broke off, which http.client takes for its end.
            return None
        return response.status, json.loads(response.read())
    except (OSError, HTTPException):
        return None
    finally:
        http.close()


def test_kill(
    make_user: Callable[..., User], outcome: Callable[..., None], start_python: Callable[..., Any]
) -> None:
    address, over = Address(), threading.Event()
    visitors = [Visitor(address, make_user(f"visitor{number}")) for number in range(VISITORS)]
    kills = 0

    def start() -> Any:
        return start_python("-m", "tests.proof.server", JWT_AUTH_PROOF_PAUSE=str(PAUSE))

    def hits() -> int:
        return len({number for visitor in visitors for number in visitor.lost_after})

    with ThreadPoolExecutor(VISITORS) as pool:
        runs = [pool.submit(visitor.run, over) for visitor in visitors]
        server = start()
        try:
            while hits() < LOST and not any(run.done() for run in runs):
                address.move(int(server.stdout.readline()))
                successor = start()
                address.wait_for_answer()
                time.sleep(random.uniform(0, LONGEST_LIFE))  # noqa: S311
                server.kill()
                server.communicate()
                kills += 1
                server = successor
        finally:
            over.set()
            address.move(int(server.stdout.readline()))
        for run in runs:
            run.result()

    for visitor in visitors:
        row = visitor.row.get()
        # Each trade moved the session on by one, however often it had to be asked for.
        assert (row.generation, row.revoked_at) == (visitor.trades, None)
    assert LoginSession.objects.count() == VISITORS
    assert hits() >= LOST
    lost = [len(visitor.lost_after) for visitor in visitors]
    outcome(
        f"SIGKILL of the server, {VISITORS} clients",
        f"{kills} kills",
        f"{hits()} between commit and answer, {sum(lost)} answers lost there in "
        f"{sum(visitor.trades for visitor in visitors)} refreshes: all went on",
    )
