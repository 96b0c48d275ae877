"""Ends of sessions and open transactions, at every isolation level."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from jwt_auth import revocation, sessions, verify
from jwt_auth.errors import SessionEnded
from jwt_auth.models import LoginSession
from tests.conftest import Clock
from tests.proof.conftest import LEVELS, isolation
from tests.test_revocation import DEADLOCK, INTERVAL, StillTiming, no_reader_threads

pytestmark = pytest.mark.parametrize("level", range(4))


@pytest.fixture
def name(level: int) -> Any:
    """Return the isolation level of this number, if the engine has so many."""
    levels = LEVELS[connection.vendor]
    if level >= len(levels):
        pytest.skip(f"{connection.vendor} has {len(levels)} isolation levels")
    return levels[level]


@pytest.fixture
def move(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that moves the time until the list is renewed."""
    timing = StillTiming()
    monkeypatch.setattr(revocation, "Timing", lambda: timing)

    def move() -> None:
        clock.move(seconds=INTERVAL)
        timing.move(INTERVAL)

    yield move
    timing.end_readers()


def end_in_another_thread(session_id: UUID | None) -> None:
    """End a session on a connection of its own."""

    def end() -> None:
        assert session_id is not None
        sessions.end(session_id)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(end).result(DEADLOCK)


def is_refused(raw: str) -> bool:
    """Tell whether the session of a token has ended, as far as this request can tell."""
    try:
        verify(raw)
    except SessionEnded:
        return True
    return False


@pytest.mark.parametrize("with_threads", [True, False])
def test_transaction_that_began_before_an_end_does_not_undo_it(
    make_user: Any,
    move: Callable[[], None],
    name: str | None,
    with_threads: bool,
    outcome: Callable[..., None],
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("a transaction that may write keeps others from ending a session")
    with isolation(name), nullcontext() if with_threads else no_reader_threads():
        pair = sessions.start(make_user())
        assert not is_refused(pair.access_token)
        with transaction.atomic():
            # What it sees is fixed from here on.
            assert LoginSession.objects.count() == 1
            end_in_another_thread(pair.session_id)
            for _ in range(3):
                assert is_refused(pair.access_token)
                move()
        assert is_refused(pair.access_token)
    how = "a thread" if with_threads else "requests"
    outcome(f"an end beside an older transaction, {how} read ({name})", 3, "refused at once")


def test_end_is_refused_at_once_whatever_else_raises_on_commit(
    make_user: Any, move: Callable[[], None], name: str | None, outcome: Callable[..., None]
) -> None:
    with isolation(name):
        pair = sessions.start(make_user())
        other = sessions.start(make_user("eve"))
        assert pair.session_id is not None
        for is_rolled_back in (True, False):
            with suppress(ZeroDivisionError), transaction.atomic():
                transaction.on_commit(lambda: 1 / 0)
                sessions.end(pair.session_id)
                move()
                # The list is read, and does not have the session yet.
                assert not is_refused(other.access_token)
                transaction.set_rollback(is_rolled_back)
            # The list of READ UNCOMMITTED has what was then undone, for an interval.
            if name != "read uncommitted" or not is_rolled_back:
                assert is_refused(pair.access_token) is not is_rolled_back
            move()
            assert is_refused(pair.access_token) is not is_rolled_back
            assert not is_refused(other.access_token)
    outcome(f"a function that raises on commit ({name})", 1, "refused at once")
