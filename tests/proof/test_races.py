"""Many uses of one refresh token at the same moment: one successor, and nobody logged out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.proof.conftest import LEVELS, isolation
from tests.proof.races import Racers, attempt

ROUNDS = int(os.environ.get("JWT_AUTH_PROOF_ROUNDS", "200"))
THREADS = 20
PROCESSES = 4

pytestmark = pytest.mark.parametrize("level", range(4))


def one_of(level: int) -> str | None:
    """Return the isolation level of this number, if the engine has so many."""
    levels: list[str | None] = LEVELS[connection.vendor]
    if level >= len(levels):
        pytest.skip(f"{connection.vendor} has {len(levels)} isolation levels")
    return levels[level]


def judge(raw: str, results: list[str], session_id: Any) -> None:
    """Demand that all uses of *raw* led to one successor, and that it is good."""
    assert len(set(results)) == 1, sorted({one[:40] for one in results})
    successor = results[0]
    assert successor.startswith("jwtr_"), successor
    assert successor != raw
    row = LoginSession.objects.get(pk=session_id)
    assert (row.generation, row.revoked_at) == (1, None)
    assert attempt(successor) == successor
    assert attempt(raw) == successor


def test_threads(user: User, outcome: Callable[..., None], level: int) -> None:
    name = one_of(level)
    with isolation(name), Racers(THREADS) as racers:
        for _ in range(ROUNDS):
            pair = sessions.start(user)
            raw = pair.refresh_token or ""
            judge(raw, racers.race(raw), pair.session_id)
    assert LoginSession.objects.count() == ROUNDS
    outcome(
        f"{THREADS} threads on one token{_at(name)}", ROUNDS, "one successor each, none logged out"
    )


def test_processes(
    user: User, outcome: Callable[..., None], start_python: Callable[..., Any], level: int
) -> None:
    name = one_of(level)
    racers = [
        start_python("-m", "tests.proof.racer", JWT_AUTH_PROOF_ISOLATION=name or "")
        for _ in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    with isolation(name):
        for _ in range(ROUNDS):
            pair = sessions.start(user)
            raw = pair.refresh_token or ""
            moment = time.time() + 0.01
            for racer in racers:
                racer.stdin.write(f"{moment} {raw}\n")
                racer.stdin.flush()
            results = [one for racer in racers for one in json.loads(racer.stdout.readline())]
            judge(raw, results, pair.session_id)
    outcome(
        f"{PROCESSES} processes of 5 threads on one token{_at(name)}",
        ROUNDS,
        "one successor each, none logged out",
    )


def _at(name: str | None) -> str:
    return "" if name is None else f", {name.lower()}"
