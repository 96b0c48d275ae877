"""A logout in one process, as the others see it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.utils import timezone

from jwt_auth import sessions, verify
from jwt_auth.errors import SessionEnded
from jwt_auth.models import LoginSession

LOGOUTS = int(os.environ.get("JWT_AUTH_PROOF_LOGOUTS", "10"))
OPEN_FOR = float(os.environ.get("JWT_AUTH_PROOF_OPEN_FOR", "10"))
# The interval, and what a machine that does other things as well may add.
BOUND = 2.0


def test_a_logout_is_seen_by_every_process(
    user: User, outcome: Callable[..., None], start_python: Callable[..., Any]
) -> None:
    watchers = [start_python("-m", "tests.proof.watcher") for _ in range(3)]
    delays = []
    for _ in range(LOGOUTS):
        pair = sessions.start(user)
        for watcher in watchers:
            watcher.stdin.write(f"{pair.access_token}\n")
            watcher.stdin.flush()
        for watcher in watchers:
            assert watcher.stdout.readline() == "good\n"
        time.sleep(0.3)
        assert pair.session_id is not None
        sessions.end(pair.session_id)
        ended = time.time()
        with pytest.raises(SessionEnded):
            verify(pair.access_token)
        delays += [float(watcher.stdout.readline().split()[0]) - ended for watcher in watchers]
    assert max(delays) < BOUND
    outcome(
        "a logout seen by three other processes",
        LOGOUTS,
        f"after {max(delays):.2f} s at the latest, at once in its own",
    )


def test_a_transaction_that_stays_open_is_not_missed(
    user: User, outcome: Callable[..., None], start_python: Callable[..., Any]
) -> None:
    watcher = start_python("-m", "tests.proof.watcher")
    committed, undone = sessions.start(user), sessions.start(user)
    watcher.stdin.write(f"{committed.access_token}\n")
    watcher.stdin.flush()
    assert watcher.stdout.readline() == "good\n"
    moments = []

    def end_late() -> None:
        with transaction.atomic():
            LoginSession.objects.filter(pk=committed.session_id).end("late", timezone.now())
            time.sleep(OPEN_FOR)
        moments.append(time.time())
        connections.close_all()

    thread = threading.Thread(target=end_late)
    thread.start()
    thread.join()
    refused = float(watcher.stdout.readline().split()[0])
    assert 0 <= refused - moments[0] + 0.05 < BOUND

    with transaction.atomic():
        LoginSession.objects.filter(pk=undone.session_id).end("never", timezone.now())
        transaction.set_rollback(True)
    began = time.time()
    while time.time() - began < 2:
        verify(undone.access_token)
        time.sleep(0.01)
    outcome(
        f"an end whose transaction stays open for {OPEN_FOR:g} s",
        1,
        f"seen {refused - moments[0]:.2f} s after its commit; one that is undone refuses nobody",
    )
