"""PostgreSQL stopped, started and frozen under load: nobody is logged out, nobody waits long."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asgiref.sync import ThreadSensitiveContext
from django.contrib.auth.models import User
from django.db import close_old_connections, connection, connections

from jwt_auth import sessions
from jwt_auth.errors import Rejected, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from tests.proof.cluster import Cluster, find_programs, moved_to
from tests.proof.races import attempt

OUTAGES = int(os.environ.get("JWT_AUTH_PROOF_OUTAGES", "5"))
GRACE = timedelta(seconds=1)
INTERVAL = timedelta(seconds=0.5)
MAX_AGE = timedelta(seconds=3)
# What a request may wait beyond the interval, when the database hangs.
SLACK = 0.2
REFRESHERS, VERIFIERS = 6, 3
SESSIONS_EACH = 20


class Call(NamedTuple):
    """What was asked, from when to when, and what came of it."""

    kind: str
    began: float
    ended: float
    result: str


class Load:
    """Threads that refresh and verify without end, as clients of a server do."""

    def __init__(self, users: list[User]) -> None:
        self.calls: list[Call] = []
        self.tokens = [
            [sessions.start(user).refresh_token or "" for _ in range(SESSIONS_EACH)]
            for user in users
        ]
        self._access_token = sessions.start(users[0]).access_token
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the threads meanwhile."""
        runs: list[Future[None]] = []
        with ThreadPoolExecutor(REFRESHERS + VERIFIERS + 1) as pool:
            try:
                runs += [pool.submit(self._refresh, tokens) for tokens in self.tokens]
                runs += [pool.submit(self._verify) for _ in range(VERIFIERS)]
                runs += [pool.submit(asyncio.run, self._averify())]
                yield
            finally:
                self._over.set()
        for run in runs:
            run.result()

    def results(self, kind: str, since: float = 0.0) -> set[str]:
        """Return what came of the calls of this *kind* that began *since* then."""
        return {call.result for call in self.calls if call.kind == kind and call.began >= since}

    def _refresh(self, tokens: list[str]) -> None:
        try:
            while not self._over.is_set():
                for place, raw in enumerate(tokens):
                    began = time.monotonic()
                    result = attempt(raw)
                    if result.startswith("jwtr_"):
                        tokens[place], result = result, "ok"
                    self.calls.append(Call("refresh", began, time.monotonic(), result))
                    # As Django does after each request.
                    close_old_connections()
                    if self._over.wait(0.0 if result == "ok" else 0.05):
                        return
        finally:
            connections.close_all()

    def _verify(self) -> None:
        while not self._over.wait(0.002):
            began = time.monotonic()
            try:
                current().authenticator.verify(self._access_token)
                result = "ok"
            except (Rejected, Unavailable) as error:
                result = error.code
            self.calls.append(Call("verify", began, time.monotonic(), result))

    async def _averify(self) -> None:
        while not self._over.is_set():
            await asyncio.sleep(0.002)
            began = time.monotonic()
            try:
                # As Django's ASGI handler does around each request.
                async with ThreadSensitiveContext():
                    await current().authenticator.averify(self._access_token)
                result = "ok"
            except (Rejected, Unavailable) as error:
                result = error.code
            self.calls.append(Call("verify", began, time.monotonic(), result))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if connection.vendor != "postgresql":
        pytest.skip("a server of one's own is started of PostgreSQL alone")
    programs = find_programs()
    if programs is None:
        reason = "the programs of PostgreSQL's server are not there"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="jwt_auth_"))
    try:
        cluster = Cluster(folder, programs)
        cluster.start()
        try:
            with moved_to(cluster):
                yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def load(cluster: Cluster, settings: Any) -> Load:
    settings.JWT_AUTH = {
        "REFRESH_GRACE": GRACE,
        "REVOCATION_INTERVAL": INTERVAL,
        "REVOCATION_MAX_AGE": MAX_AGE,
    }
    return Load([User.objects.create(username=f"user{number}") for number in range(REFRESHERS)])


def judge(load: Load, outages: float) -> int:
    """Demand that nobody was logged out, and that everybody goes on. Return the refreshes."""
    assert load.results("refresh") <= {"ok", "unavailable"}
    assert load.results("verify") == {"ok", "unavailable"}
    assert load.results("verify", since=outages) == {"ok"}
    connection.close()
    afterwards = [attempt(raw) for tokens in load.tokens for raw in tokens]
    assert [one for one in afterwards if not one.startswith("jwtr_")] == []
    assert not LoginSession.objects.filter(revoked_at__isnull=False).exists()
    return sum(call.kind == "refresh" and call.result == "ok" for call in load.calls)


def test_stopped(cluster: Cluster, load: Load, outcome: Callable[..., None]) -> None:
    with load.running():
        for _ in range(OUTAGES):
            time.sleep(1 + random.random())  # noqa: S311
            cluster.stop()
            time.sleep(2 * GRACE.total_seconds() + MAX_AGE.total_seconds())
            cluster.start()
        time.sleep(2 * INTERVAL.total_seconds())
        again = time.monotonic()
        time.sleep(2 * GRACE.total_seconds())
    assert "unavailable" in load.results("refresh")
    refreshes = judge(load, again)
    outcome(
        "PostgreSQL stopped (immediate) and started",
        OUTAGES,
        f"503 for longer than the grace, {refreshes} refreshes of "
        f"{REFRESHERS * SESSIONS_EACH} sessions: none logged out",
    )


def test_committed_without_answer(
    cluster: Cluster, load: Load, outcome: Callable[..., None]
) -> None:
    """The crash falls between the commits of rotations and their answers, and lasts."""
    held = [tokens[0] for tokens in load.tokens]
    with ThreadPoolExecutor(len(held)) as pool, cluster.commits_held(len(held)):
        refreshes = [pool.submit(_attempt_once, raw) for raw in held]
    answers = [refresh.result() for refresh in refreshes]
    connection.close()
    generations = set(LoginSession.objects.values_list("generation", flat=True))
    assert generations == {0, 1}, "the rotations were committed"
    time.sleep(GRACE.total_seconds())
    # As clients do: with the new token if there was one, and else with the old.
    again = [
        attempt(answer if answer.startswith("jwtr_") else raw)
        for raw, answer in zip(held, answers, strict=True)
    ]
    assert [one for one in again if not one.startswith("jwtr_")] == []
    assert not LoginSession.objects.filter(revoked_at__isnull=False).exists()
    outcome("PostgreSQL crashed between commit and answer", len(held), "none logged out")


def _attempt_once(raw: str) -> str:
    try:
        return attempt(raw)
    finally:
        connections.close_all()


def test_frozen(cluster: Cluster, load: Load, outcome: Callable[..., None]) -> None:
    interval, max_age = INTERVAL.total_seconds(), MAX_AGE.total_seconds()
    with load.running():
        time.sleep(2)
        frozen = time.monotonic()
        with cluster.frozen():
            time.sleep(max_age + 8 * interval)
            thawed = time.monotonic()
        time.sleep(2 * interval)
        again = time.monotonic()
        time.sleep(2 * GRACE.total_seconds())
    verified = [call for call in load.calls if call.kind == "verify"]
    waits = sorted(call.ended - call.began for call in verified)
    # Of thousands of calls some are those in which a busy machine ran somebody else.
    longest = waits[int(0.999 * len(waits))]
    # The list was younger than two intervals when the server froze.
    fresh = frozen + max_age - 2 * interval
    served = {call.result for call in verified if frozen < call.ended < fresh}
    late = {call.result for call in verified if frozen + max_age < call.began < thawed}
    assert longest <= interval + SLACK
    assert waits[-1] <= interval + 1
    assert (served, late) == ({"ok"}, {"unavailable"})
    judge(load, again)
    outcome(
        f"PostgreSQL frozen for {thawed - frozen:.0f} s",
        f"{len(verified)} calls",
        f"longest verify {longest:.2f} s at an interval of {interval} s; 503 past "
        f"REVOCATION_MAX_AGE; none logged out",
    )
