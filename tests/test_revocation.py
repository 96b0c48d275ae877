"""The list of ended sessions: how old it may be, and what happens when it cannot be read."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import OperationalError, transaction
from django.utils import timezone

from jwt_auth import averify, revocation, runtime, sessions, verify
from jwt_auth.errors import SessionEnded, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.revocation import RevocationList, Timing, ended_sessions
from jwt_auth.runtime import current
from tests.conftest import Clock, JSONClient

T = TypeVar("T")
INTERVAL = 1.0
MAX_AGE = 15.0
WINDOW = timedelta(minutes=8)
# Seconds after which a wait for another thread fails its test.
DEADLOCK = 30.0


class StillTiming(Timing):
    """Time that passes when a test moves it, or when a wait ends without its event.

    `times_out` makes every wait for an event end that way. Otherwise a wait lasts until its
    event is done.
    """

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.ticks = 1_000.0
        self.times_out = False
        self.waits = 0
        self.is_awaited = threading.Event()
        self._readers: dict[threading.Thread, SimpleQueue[Any]] = {}

    def wall(self) -> float:
        """Return POSIX seconds."""
        return self.now

    def monotonic(self) -> float:  # type: ignore[override]
        """Return seconds of the other clock."""
        return self.ticks

    def move(self, seconds: float) -> None:
        """Move both clocks on."""
        self.now += seconds
        self.ticks += seconds

    def wait(self, event: Future[None], seconds: float) -> bool:
        """See Timing."""
        self.waits += 1
        self.is_awaited.set()
        if self.times_out:
            self.move(0 if event.done() else seconds)
        else:
            event.result(DEADLOCK)
        return event.done()

    async def async_wait(self, event: Future[None], seconds: float) -> bool:
        """See Timing."""
        self.waits += 1
        if self.times_out:
            self.move(0 if event.done() else seconds)
        else:
            await asyncio.wait_for(asyncio.wrap_future(event), DEADLOCK)
        return event.done()

    def take(self, queue: SimpleQueue[T], seconds: float) -> T | None:
        """See Timing."""
        self._readers[threading.current_thread()] = queue
        return super().take(queue, DEADLOCK)

    def end_readers(self) -> None:
        """Let the readers' waits for work end, and wait for the threads."""
        for thread, queue in tuple(self._readers.items()):
            queue.put(None)
            thread.join(DEADLOCK)
            assert not thread.is_alive()


class Database:
    """A database that answers, fails or hangs as a test tells it."""

    def __init__(self) -> None:
        self.ended: set[UUID] = set()
        # The name of the thread that each read ran in.
        self.readers: list[str] = []
        self.hold: threading.Event | None = None
        self.error: Exception | None = None
        # Released by each read when it arrives.
        self.arrivals = threading.Semaphore(0)

    @property
    def reads(self) -> int:
        """How many reads have arrived."""
        return len(self.readers)

    def read(self, alias: str, since: datetime) -> set[UUID]:
        """Answer as `ended_sessions` does."""
        self.readers.append(threading.current_thread().name)
        found = set(self.ended)
        hold = self.hold
        self.arrivals.release()
        if hold is not None:
            hold.wait(DEADLOCK)
        if self.error is not None:
            raise self.error
        return found

    def wait_for_reads(self, count: int) -> None:
        """Wait until *count* more reads have arrived."""
        for _ in range(count):
            assert self.arrivals.acquire(timeout=DEADLOCK)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def timing(database: Database) -> Iterator[StillTiming]:
    one = StillTiming()
    yield one
    if database.hold is not None:
        database.hold.set()
    one.end_readers()


@pytest.fixture
def revocations(database: Database, timing: StillTiming) -> RevocationList:
    return RevocationList(
        interval=timedelta(seconds=INTERVAL),
        max_age=timedelta(seconds=MAX_AGE),
        window=WINDOW,
        clock=timing.wall,
        read=database.read,
        timing=timing,
    )


def claims_of(session_id: UUID) -> Any:
    """Return as much of claims as the list looks at."""
    return SimpleNamespace(session_id=session_id)


def sync_check(revocations: RevocationList, session_id: UUID) -> str:
    """Ask on the sync path; return the verdict."""
    try:
        revocations.check(claims_of(session_id))
    except (SessionEnded, Unavailable) as error:
        return error.code
    return "good"


@async_to_sync
async def async_check(revocations: RevocationList, session_id: UUID) -> str:
    """Ask on the async path; return the verdict."""
    try:
        await revocations.acheck(claims_of(session_id))
    except (SessionEnded, Unavailable) as error:
        return error.code
    return "good"


both_paths = pytest.mark.parametrize("check", [sync_check, async_check], ids=["sync", "async"])
Check = Callable[[RevocationList, UUID], str]


@both_paths
def test_list_is_read_once_per_interval(
    revocations: RevocationList, database: Database, timing: StillTiming, check: Check
) -> None:
    ended, other = uuid4(), uuid4()
    database.ended = {ended}
    for reads in (1, 2, 3):
        for _ in range(20):
            assert check(revocations, ended) == "session_ended"
            assert check(revocations, other) == "good"
        timing.move(0.99 * INTERVAL)
        assert check(revocations, other) == "good"
        assert database.reads == reads
        timing.move(0.01 * INTERVAL)


@both_paths
def test_requests_after_a_long_rest_wait_for_one_read(
    revocations: RevocationList, database: Database, timing: StillTiming, check: Check
) -> None:
    session = uuid4()
    assert check(revocations, session) == "good"
    timing.move(600)
    database.ended = {session}
    with ThreadPoolExecutor(8) as pool:
        verdicts = set(pool.map(lambda _: sync_check(revocations, session), range(8)))
    assert verdicts == {"session_ended"}
    assert database.reads == 2


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_stepped_wall_clock_makes_a_list_old(
    revocations: RevocationList, database: Database, timing: StillTiming, seconds: int
) -> None:
    session = uuid4()
    assert sync_check(revocations, session) == "good"
    timing.now += seconds
    database.ended = {session}
    assert sync_check(revocations, session) == "session_ended"


@pytest.mark.parametrize("clock", ["now", "ticks"])
@pytest.mark.parametrize("seconds", [-3600, -1.01 * INTERVAL, 1.01 * INTERVAL, 3600])
def test_old_list_does_not_vouch(
    revocations: RevocationList, timing: StillTiming, clock: str, seconds: float
) -> None:
    claims = claims_of(uuid4())
    # Before the first question there is no list.
    assert not revocations.vouch(claims, timing.now)
    revocations.check(claims)
    assert revocations.vouch(claims, timing.now)
    setattr(timing, clock, getattr(timing, clock) + seconds)
    assert not revocations.vouch(claims, timing.now)


def test_list_does_not_vouch_for_ended_sessions_or_when_incomplete(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, other = uuid4(), uuid4()
    database.ended = {ended}
    assert sync_check(revocations, other) == "good"
    assert revocations.vouch(claims_of(other), timing.now)
    assert not revocations.vouch(claims_of(ended), timing.now)
    one = revocations._list()
    one.add([other])
    assert not revocations.vouch(claims_of(other), timing.now)
    monkeypatch.setattr(revocation, "LONGEST_LIST", 1)
    one.add([uuid4()])
    assert not revocations.vouch(claims_of(uuid4()), timing.now)


def test_list_that_was_marked_stale_does_not_vouch(
    revocations: RevocationList, timing: StillTiming
) -> None:
    claims = claims_of(uuid4())
    revocations.check(claims)
    revocations._list().look_again()
    assert not revocations.vouch(claims, timing.now)


def test_read_that_began_before_the_mark_does_not_vouch(
    revocations: RevocationList, database: Database, timing: StillTiming
) -> None:
    database.hold = threading.Event()
    claims = claims_of(uuid4())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sync_check, revocations, claims.session_id)
        database.wait_for_reads(1)
        revocations._list().look_again()
        database.hold.set()
        assert waiting.result() == "good"
    assert not revocations.vouch(claims, timing.now)


@pytest.mark.django_db
def test_router_chooses_the_list(
    revocations: RevocationList, timing: StillTiming, settings: Any
) -> None:
    revocations.check(claims_of(uuid4()))
    assert revocations.vouch(claims_of(uuid4()), timing.now)
    settings.DATABASE_ROUTERS = ["tests.test_revocation.Elsewhere"]
    assert not revocations.vouch(claims_of(uuid4()), timing.now)


class Elsewhere:
    """Sends sessions to a database of their own."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "elsewhere"


@both_paths
def test_old_list_serves_until_its_greatest_age_while_reads_fail(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    check: Check,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended, other = uuid4(), uuid4()
    database.ended = {ended}
    assert check(revocations, ended) == "session_ended"
    database.error = OperationalError("gone away")
    for _ in range(int(MAX_AGE / INTERVAL)):
        timing.move(INTERVAL)
        for _ in range(3):
            assert check(revocations, ended) == "session_ended"
            assert check(revocations, other) == "good"
    # One attempt per interval, and one record per attempt.
    assert database.reads == 1 + MAX_AGE / INTERVAL
    records = [one for one in caplog.records if one.module in {"models", "revocation"}]
    assert len(records) == MAX_AGE / INTERVAL

    timing.move(0.01)
    assert check(revocations, other) == "unavailable"
    database.error = None
    timing.move(INTERVAL)
    assert check(revocations, ended) == "session_ended"
    assert check(revocations, other) == "good"


@both_paths
def test_requests_are_unavailable_without_a_first_list(
    revocations: RevocationList, database: Database, check: Check
) -> None:
    database.error = RuntimeError("what is this?")
    assert check(revocations, uuid4()) == "unavailable"


@both_paths
def test_hanging_database_costs_one_wait_of_an_interval(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    check: Check,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = uuid4()
    assert check(revocations, session) == "good"
    database.wait_for_reads(1)
    read, timing.waits = timing.ticks, 0
    database.hold = threading.Event()
    timing.times_out = True
    timing.move(INTERVAL)
    before = timing.ticks
    assert check(revocations, session) == "good"
    assert (timing.waits, timing.ticks - before) == (2, INTERVAL)
    # From now on the old list serves without a wait, and an interval brings another attempt.
    while timing.ticks - read <= revocation.LATE_INTERVALS * INTERVAL:
        assert check(revocations, session) == "good"
        timing.move(INTERVAL)
    assert timing.waits == 2
    # All readers hang by now: requests have the old list until it is too old.
    while timing.ticks - read <= MAX_AGE:
        assert check(revocations, session) == "good"
        timing.move(INTERVAL)
    assert check(revocations, session) == "unavailable"
    database.wait_for_reads(revocation.MOST_READERS)
    assert database.reads == 1 + revocation.MOST_READERS
    assert "late" in caplog.text

    database.ended = {session}
    database.hold.set()
    timing.end_readers()
    assert revocations._lists["default"]._running == []
    database.hold, timing.times_out = None, False
    timing.move(MAX_AGE)
    assert check(revocations, session) == "session_ended"


@both_paths
def test_slow_database_costs_one_wait(
    revocations: RevocationList, database: Database, timing: StillTiming, check: Check
) -> None:
    assert check(revocations, uuid4()) == "good"
    database.wait_for_reads(1)
    ended, timing.waits = uuid4(), 0
    for _ in range(5):
        # Each read takes longer than an interval.
        database.hold, timing.times_out = threading.Event(), True
        timing.move(INTERVAL)
        assert check(revocations, ended) == "good"
        database.wait_for_reads(1)
        timing.move(1.5 * INTERVAL)
        reading = revocations._list()._newest
        assert reading is not None
        database.hold.set()
        reading.finished.result(DEADLOCK)
    # The first one was waited for; since then the list is known to come late.
    assert timing.waits == 2
    database.ended, database.hold, timing.times_out = {ended}, None, False
    # The last read was late, so the next one is not waited for either.
    check(revocations, ended)
    reading = revocations._list()._newest
    assert reading is not None
    reading.finished.result(DEADLOCK)
    assert check(revocations, ended) == "session_ended"


def fail_once(revocations: RevocationList, database: Database, timing: StillTiming) -> None:
    """Let the first read fail: a thread has run, and there is still no list."""
    database.error = OperationalError("gone away")
    assert sync_check(revocations, uuid4()) == "unavailable"
    database.wait_for_reads(1)
    database.error = None
    timing.move(INTERVAL)


def hung(timing: StillTiming, database: Database, max_age: float = MAX_AGE) -> RevocationList:
    """Return a list whose database hangs, with as many readers as there may be."""
    one = RevocationList(
        interval=timedelta(seconds=INTERVAL),
        max_age=timedelta(seconds=max_age),
        window=WINDOW,
        clock=timing.wall,
        read=database.read,
        timing=timing,
    )
    fail_once(one, database, timing)
    database.hold = threading.Event()
    timing.times_out = True
    for _ in range(revocation.MOST_READERS):
        assert sync_check(one, uuid4()) == "unavailable"
        database.wait_for_reads(1)
    return one


def test_number_of_hanging_readers_is_bounded(database: Database, timing: StillTiming) -> None:
    one = hung(timing, database)
    for _ in range(2 * revocation.MOST_READERS):
        timing.move(INTERVAL)
        assert sync_check(one, uuid4()) == "unavailable"
    assert database.reads == 1 + revocation.MOST_READERS


@pytest.mark.parametrize("max_age", [1.0, 2 * revocation.RETRY])
def test_another_reader_is_tried_when_all_hang(
    database: Database, timing: StillTiming, max_age: float
) -> None:
    one = hung(timing, database, max_age)
    # The database is back, and the connections that hang do not know of it.
    hold, database.hold = database.hold, None
    assert hold is not None
    timing.times_out = False
    began = one._list()._newest
    assert began is not None
    try:
        timing.ticks = began.began + max(revocation.RETRY, max_age) - 0.01
        timing.now = began.began_at + max(revocation.RETRY, max_age) - 0.01
        assert sync_check(one, uuid4()) == "unavailable"
        timing.move(0.01)
        assert sync_check(one, uuid4()) == "good"
    finally:
        hold.set()


@both_paths
def test_request_reads_where_no_thread_runs(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation._DatabaseList, "_work", lambda one, readings: None)
    timing.times_out = True
    session = uuid4()
    database.ended = {session}
    before = timing.ticks
    assert check(revocations, session) == "session_ended"
    assert database.reads == 1
    assert timing.ticks - before == INTERVAL + revocation.STARTING
    # Once that is known, requests read without a wait.
    timing.move(INTERVAL)
    before = timing.ticks
    assert check(revocations, uuid4()) == "good"
    assert (database.reads, timing.ticks) == (2, before)


@both_paths
def test_thread_reads_once_one_runs(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_run, work = threading.Event(), revocation._DatabaseList._work

    def start_late(one: Any, readings: Any) -> None:
        may_run.wait(DEADLOCK)
        work(one, readings)

    monkeypatch.setattr(revocation._DatabaseList, "_work", start_late)
    timing.times_out = True
    assert check(revocations, uuid4()) == "good"
    may_run.set()
    revocations._list()._has_run.result(DEADLOCK)
    timing.times_out = False
    timing.move(INTERVAL)
    # The first read was late, so the second one is not waited for.
    assert check(revocations, uuid4()) == "good"
    database.wait_for_reads(2)
    assert [name == READER for name in database.readers] == [False, True]


READER = "jwt_auth.revocation"


@contextmanager
def no_reader_threads() -> Iterator[None]:
    """Have the system refuse to start a reader."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == READER:
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


@both_paths
def test_request_reads_at_once_when_no_thread_can_be_started(
    revocations: RevocationList, database: Database, timing: StillTiming, check: Check
) -> None:
    session = uuid4()
    database.ended = {session}
    with no_reader_threads():
        assert check(revocations, session) == "session_ended"
        timing.move(INTERVAL)
        assert check(revocations, uuid4()) == "good"
    assert (database.reads, timing.waits) == (2, 0)
    assert READER not in database.readers


@both_paths
def test_request_reads_when_no_second_thread_can_be_started(
    revocations: RevocationList, database: Database, timing: StillTiming, check: Check
) -> None:
    session = uuid4()
    assert check(revocations, session) == "good"
    # The first one has ended, since no request has asked for a while.
    timing.end_readers()
    timing.move(INTERVAL)
    database.ended = {session}
    with no_reader_threads():
        assert check(revocations, session) == "session_ended"


@both_paths
def test_thread_is_started_again_some_time_after_one_failed(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    check: Check,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with no_reader_threads():
        for _ in range(3):
            assert check(revocations, uuid4()) == "good"
            timing.move(INTERVAL)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    timing.move(revocation.RETRY - 3 * INTERVAL - 0.01)
    assert check(revocations, uuid4()) == "good"
    assert READER not in database.readers
    timing.move(INTERVAL)
    assert check(revocations, uuid4()) == "good"
    assert database.readers[-1] == READER


def test_request_waits_for_another_one_that_reads(
    revocations: RevocationList, database: Database, timing: StillTiming
) -> None:
    database.hold = threading.Event()
    session = uuid4()
    database.ended = {session}
    with no_reader_threads(), ThreadPoolExecutor(2) as pool:
        reading = pool.submit(sync_check, revocations, uuid4())
        database.wait_for_reads(1)
        waiting = pool.submit(sync_check, revocations, session)
        assert timing.is_awaited.wait(DEADLOCK)
        database.hold.set()
        assert (reading.result(), waiting.result()) == ("good", "session_ended")
    assert database.reads == 1


@pytest.mark.parametrize("check", [sync_check, async_check], ids=["sync", "async"])
def test_request_that_reads_and_hangs_costs_the_others_one_wait(
    revocations: RevocationList, database: Database, timing: StillTiming, check: Check
) -> None:
    with no_reader_threads(), ThreadPoolExecutor(1) as pool:
        assert check(revocations, uuid4()) == "good"
        database.wait_for_reads(1)
        database.hold = threading.Event()
        timing.move(INTERVAL)
        reading = pool.submit(sync_check, revocations, uuid4())
        database.wait_for_reads(1)
        timing.times_out = True
        assert check(revocations, uuid4()) == "good"
        # The old list serves for the rest of the interval, and nothing else is read.
        timing.move(-0.5 * INTERVAL)
        for _ in range(3):
            assert check(revocations, uuid4()) == "good"
        database.hold.set()
        assert reading.result() == "good"
    assert (timing.waits, database.reads) == (1, 2)


@pytest.mark.django_db(transaction=True)
class TestInTransactions:
    """A request that reads the list itself, inside of a transaction that others do not see."""

    @both_paths
    def test_read_only_adds(
        self, revocations: RevocationList, database: Database, timing: StillTiming, check: Check
    ) -> None:
        known, late = uuid4(), uuid4()
        with no_reader_threads():
            database.ended = {known}
            assert check(revocations, known) == "session_ended"
            # As after the first query of a transaction, with REPEATABLE READ.
            timing.move(INTERVAL)
            database.ended = {late}
            with transaction.atomic():
                assert check(revocations, known) == "session_ended"
                assert check(revocations, late) == "session_ended"
            assert database.reads == 2
            timing.move(INTERVAL)
            assert check(revocations, known) == "good"

    def test_read_only_adds_to_what_came_meanwhile(
        self, revocations: RevocationList, database: Database, timing: StillTiming
    ) -> None:
        first, second = uuid4(), uuid4()
        one = revocations._list()
        with no_reader_threads(), transaction.atomic():
            assert sync_check(revocations, first) == "good"
            timing.move(INTERVAL)
            early, late = revocation._Reading(1.0, 1.0), one.renew()
            assert late is not None
            late.number, early.number = early.number, late.number
            one._keep(early, {first})
            database.ended = {second}
            one.wait(late)
            assert sync_check(revocations, first) == "session_ended"
            assert sync_check(revocations, second) == "session_ended"

    def test_long_list_stays_incomplete(
        self,
        revocations: RevocationList,
        database: Database,
        timing: StillTiming,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(revocation, "LONGEST_LIST", 2)
        one = revocations._list()
        with no_reader_threads():
            database.ended = {uuid4(), uuid4(), uuid4()}
            assert sync_check(revocations, uuid4()) == "good"
            for ended, complete in (({uuid4()}, False), (set(), False)):
                database.ended = ended
                timing.move(INTERVAL)
                with transaction.atomic():
                    assert sync_check(revocations, uuid4()) == "good"
                assert one._snapshot is not None
                assert one._snapshot.complete is complete
            timing.move(INTERVAL)
            assert sync_check(revocations, uuid4()) == "good"
            assert one._snapshot.complete
            # What it adds may be too much as well.
            for ended in ({uuid4()}, {uuid4(), uuid4()}):
                database.ended = ended
                timing.move(INTERVAL)
                with transaction.atomic():
                    assert sync_check(revocations, uuid4()) == "good"
            assert not one._snapshot.complete


def test_connection_that_fails_before_the_read_is_a_failed_read(
    revocations: RevocationList, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Any) -> None:
        raise OperationalError("gone away")

    one = revocations._list()
    with monkeypatch.context() as patch:
        patch.setattr(
            "django.db.backends.base.base.BaseDatabaseWrapper.close_if_unusable_or_obsolete", fail
        )
        assert sync_check(revocations, uuid4()) == "unavailable"
    assert one._running == []


def test_list_that_grows_too_long_in_this_process_is_incomplete(
    revocations: RevocationList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "LONGEST_LIST", 3)
    assert sync_check(revocations, uuid4()) == "good"
    one = revocations._list()
    one.add([uuid4() for _ in range(4)])
    assert one._snapshot is not None
    assert (one._snapshot.complete, one._snapshot.session_ids) == (False, set())


def test_failed_reader_thread_is_replaced(
    revocations: RevocationList,
    database: Database,
    timing: StillTiming,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_once(revocations, database, timing)
    one = revocations._list()
    with monkeypatch.context() as patch:
        # The thread drops the read, which never finishes.
        patch.setattr(one, "_read", lambda reading, prepare: 1 / 0)
        timing.times_out = True
        assert sync_check(revocations, uuid4()) == "unavailable"
        timing.end_readers()
    assert one._reader is None
    session = uuid4()
    database.ended, timing.times_out = {session}, False
    assert sync_check(revocations, session) == "session_ended"


def test_frozen_clock_leaves_nothing_behind(
    revocations: RevocationList, database: Database, timing: StillTiming
) -> None:
    before, timing.now = timing.now, 4_000_000_000.0
    assert sync_check(revocations, uuid4()) == "good"
    timing.now = before
    session = uuid4()
    database.ended = {session}
    assert sync_check(revocations, session) == "session_ended"


def test_idle_reader_thread_ends(
    revocations: RevocationList, database: Database, timing: StillTiming
) -> None:
    sync_check(revocations, uuid4())
    timing.end_readers()
    assert revocations._lists["default"]._reader is None
    timing.move(INTERVAL)
    session = uuid4()
    database.ended = {session}
    assert sync_check(revocations, session) == "session_ended"


def test_session_that_ends_during_a_read_is_not_lost(
    revocations: RevocationList, database: Database
) -> None:
    session = uuid4()
    database.hold = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sync_check, revocations, uuid4())
        database.wait_for_reads(1)
        revocations._list().add([session])
        database.hold.set()
        assert waiting.result() == "good"
    assert sync_check(revocations, session) == "session_ended"


def test_overtaken_read_changes_nothing(revocations: RevocationList) -> None:
    one = revocations._list()
    early = revocation._Reading(1.0, 1.0)
    late = revocation._Reading(2.0, 2.0)
    session = uuid4()
    one._keep(late, {session})
    one._keep(early, set())
    assert one._snapshot is not None
    assert one._snapshot.session_ids == {session}


@pytest.mark.parametrize("times_out", [True, False])
def test_real_timing_waits_and_times_out(times_out: bool) -> None:
    timing, event = Timing(), revocation._event()
    queue: SimpleQueue[int] = SimpleQueue()
    if not times_out:
        event.set_result(None)
        queue.put(1)
    assert timing.wait(event, 0) is not times_out
    assert async_to_sync(timing.async_wait)(event, 0 if times_out else DEADLOCK) is not times_out
    assert timing.take(queue, 0.001) == (None if times_out else 1)


def test_cancelled_request_does_not_cancel_the_others(
    revocations: RevocationList, database: Database, timing: StillTiming
) -> None:
    database.hold = threading.Event()
    session = uuid4()
    database.ended = {session}

    @async_to_sync
    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(revocations.acheck(claims_of(session))) for _ in range(5)]
        await asyncio.to_thread(database.wait_for_reads, 1)
        assert database.reads == 1
        while timing.waits < len(tasks):  # noqa: ASYNC110
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert database.hold is not None
        database.hold.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = main()
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(one, SessionEnded) for one in others)


class TestWithRows:
    """The list as it is read from the table."""

    def test_the_window(self, user: User, clock: Clock) -> None:
        pairs = [sessions.start(user) for _ in range(3)]
        sessions.end(pairs[0].session_id)  # type: ignore[arg-type]
        clock.move(minutes=8)
        sessions.end(pairs[1].session_id)  # type: ignore[arg-type]
        since = timezone.now() - WINDOW
        assert ended_sessions("default", since) == {pairs[0].session_id, pairs[1].session_id}
        clock.move(seconds=1)
        since = timezone.now() - WINDOW
        assert ended_sessions("default", since) == {pairs[1].session_id}
        window = current().authenticator.revocations._rules.window  # type: ignore[union-attr]
        assert window == WINDOW

    def test_a_list_that_is_too_long_is_not_read(
        self,
        user: User,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        django_assert_num_queries: Any,
    ) -> None:
        monkeypatch.setattr(revocation, "LONGEST_LIST", 2)
        pairs = [sessions.start(user) for _ in range(4)]
        living = sessions.start(user)
        for pair in pairs:
            LoginSession.objects.filter(pk=pair.session_id).end("x", timezone.now())
        verify(living.access_token)
        with django_assert_num_queries(1):
            verify(living.access_token)
        with django_assert_num_queries(1):
            async_to_sync(averify)(living.access_token)
        for pair in pairs:
            with pytest.raises(SessionEnded):
                verify(pair.access_token)
            with pytest.raises(SessionEnded):
                async_to_sync(averify)(pair.access_token)
        # Until the window is short again.
        LoginSession.objects.filter(pk=pairs[0].session_id).update(revoked_at=None)
        LoginSession.objects.filter(pk=pairs[1].session_id).update(revoked_at=None)
        clock.move(seconds=2)
        verify(living.access_token)
        with django_assert_num_queries(0):
            verify(living.access_token)

    def test_an_end_counts_at_once_in_this_process(self, user: User, clock: Clock) -> None:
        pair = sessions.start(user)
        verify(pair.access_token)
        sessions.end_all(user)
        with pytest.raises(SessionEnded):
            verify(pair.access_token)

    def test_a_reuse_too(self, user: User, clock: Clock, client: JSONClient) -> None:
        first = client.login().json()
        second = client.refresh(first["refresh_token"]).json()
        assert client.whoami(second["access_token"]).status_code == 200
        clock.move(seconds=121)
        assert client.refresh(first["refresh_token"]).json()["code"] == "refresh_reused"
        third = client.whoami(second["access_token"])
        assert third.json()["code"] == "session_ended"

    def test_off_means_off_and_0_means_each_time(
        self, user: User, settings: Any, django_assert_num_queries: Any
    ) -> None:
        settings.JWT_AUTH = {"REVOCATION_INTERVAL": 0}
        token = sessions.start(user).access_token
        for _ in range(2):
            with django_assert_num_queries(1):
                verify(token)
        sessions.end_all(user)
        with pytest.raises(SessionEnded):
            verify(token)
        with pytest.raises(SessionEnded):
            async_to_sync(averify)(token)


@pytest.fixture
def move(clock: Clock, timing: StillTiming, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that moves the time until the list is renewed."""
    monkeypatch.setattr(revocation, "Timing", lambda: timing)

    def move() -> None:
        clock.move(seconds=INTERVAL)
        timing.move(INTERVAL)

    return move


@pytest.fixture
def pair(move: Callable[[], None], make_user: Any) -> sessions.TokenPair:
    """Return the first pair of a session; the list has been read."""
    pair = sessions.start(make_user())
    verify(pair.access_token)
    return pair


@pytest.mark.django_db(transaction=True)
class TestWithCommits:
    """The list as its own thread reads it, outside of any test's transaction."""

    def test_only_what_is_committed_counts(self, pair: sessions.TokenPair) -> None:
        session_id = pair.session_id
        assert session_id is not None
        with transaction.atomic():
            sessions.end(session_id)
            transaction.set_rollback(True)
        assert verify(pair.access_token)
        with transaction.atomic():
            sessions.end(session_id)
        with pytest.raises(SessionEnded):
            verify(pair.access_token)

    def test_the_request_is_asked_no_query(
        self, pair: sessions.TokenPair, django_assert_num_queries: Any
    ) -> None:
        with django_assert_num_queries(0):
            for _ in range(20):
                verify(pair.access_token)

    def test_end_by_another_process_is_seen_after_the_interval(
        self, pair: sessions.TokenPair, move: Callable[[], None]
    ) -> None:
        # The row changes without a call in this process, as when another one ends the session.
        LoginSession.objects.filter(pk=pair.session_id).end("elsewhere", timezone.now())
        assert verify(pair.access_token)
        move()
        with pytest.raises(SessionEnded):
            verify(pair.access_token)

    def test_a_child_process_begins_anew(self, pair: sessions.TokenPair) -> None:
        before = current()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if runtime._current is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert current() is before


@pytest.mark.django_db(transaction=True)
class TestOpenTransactions:
    """Ends that wait for their commit, and ends that this process never hears of again."""

    @pytest.fixture
    def other(self, make_user: Any) -> str:
        """Return an access token of a session that does not end."""
        return str(sessions.start(make_user("eve")).access_token)

    @pytest.mark.parametrize("ask", [verify, async_to_sync(averify)], ids=["sync", "async"])
    def test_end_counts_at_once_when_another_function_raises_on_commit(
        self,
        pair: sessions.TokenPair,
        other: str,
        move: Callable[[], None],
        ask: Any,
        django_assert_num_queries: Any,
    ) -> None:
        assert pair.session_id is not None
        ask(other)
        with suppress(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(lambda: 1 / 0)
            sessions.end(pair.session_id)
            # The list is read meanwhile, and does not have the session.
            move()
            with django_assert_num_queries(0):
                ask(other)
        for _ in range(3):
            with django_assert_num_queries(1), pytest.raises(SessionEnded):
                ask(pair.access_token)
            with django_assert_num_queries(0):
                ask(other)
        # The next list has it.
        move()
        with pytest.raises(SessionEnded):
            ask(pair.access_token)
        with django_assert_num_queries(0), pytest.raises(SessionEnded):
            ask(pair.access_token)

    @pytest.mark.parametrize("ask", [verify, async_to_sync(averify)], ids=["sync", "async"])
    @pytest.mark.parametrize("savepoint", [True, False])
    def test_end_that_was_rolled_back_counts_for_nothing(
        self,
        pair: sessions.TokenPair,
        other: str,
        move: Callable[[], None],
        ask: Any,
        savepoint: bool,
        django_assert_num_queries: Any,
    ) -> None:
        assert pair.session_id is not None
        with transaction.atomic() if savepoint else nullcontext():
            with transaction.atomic():
                sessions.end(pair.session_id)
                # This request sees what it has done.
                with pytest.raises(SessionEnded):
                    ask(pair.access_token)
                transaction.set_rollback(True)
            with django_assert_num_queries(1):
                ask(pair.access_token)
        # The list that is read since then decides again.
        move()
        ask(pair.access_token)
        claims, revocations = verify(pair.access_token), current().authenticator.revocations
        assert revocations is not None
        with django_assert_num_queries(0):
            assert revocations.vouch(claims, time.time())
            ask(pair.access_token)

    def test_end_stays_pending_while_its_transaction_is_open(
        self, pair: sessions.TokenPair, other: str, move: Callable[[], None]
    ) -> None:
        assert pair.session_id is not None
        with transaction.atomic():
            sessions.end(pair.session_id)
            for _ in range(3):
                move()
                assert verify(other)
                with pytest.raises(SessionEnded):
                    verify(pair.access_token)

    def test_read_settles_no_later_end(self, pair: sessions.TokenPair, timing: StillTiming) -> None:
        one: Any = current().authenticator.revocations._list()  # type: ignore[union-attr]
        first, second = (lambda: None), (lambda: None)
        one.ask_until_over([pair.session_id], first)
        del first
        reading = revocation._Reading(timing.ticks, time.time())
        reading.settles = one._over()
        assert set(reading.settles) == {pair.session_id}
        one.ask_until_over([pair.session_id], second)
        del second
        one._keep(reading, set())
        assert one.is_pending(pair.session_id)

    def test_request_that_meets_the_read_that_settles_an_end_is_refused(
        self, pair: sessions.TokenPair, timing: StillTiming, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        revocations: Any = current().authenticator.revocations
        one, session_id = revocations._list(), pair.session_id
        fresh = one.fresh
        LoginSession.objects.filter(pk=session_id).end("x", timezone.now())
        one.ask_until_over([session_id], lambda: None)

        def meet(now: float) -> Any:
            before = fresh(now)
            reading = revocation._Reading(timing.ticks, now)
            reading.settles = one._over()
            one._keep(reading, {session_id})
            return before

        monkeypatch.setattr(one, "fresh", meet)
        with pytest.raises(SessionEnded):
            verify(pair.access_token)
        assert not one.is_pending(session_id)
