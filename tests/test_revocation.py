"""The list of ended sessions: how old it may be, and what happens when it cannot be read."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import OperationalError, transaction
from django.utils import timezone

from jwt_auth import averify, revocation, runtime, sessions, verify
from jwt_auth.errors import SessionEnded, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.revocation import RevocationList, ended_sessions
from jwt_auth.runtime import current
from tests.conftest import Clock, JSONClient

pytestmark = pytest.mark.usefixtures("quiet_heap")

# Long enough that a machine which does other things as well starts a thread meanwhile.
INTERVAL = 0.4
# Much longer than 20 requests take on such a machine.
MAX_AGE = 2.5
WINDOW = timedelta(minutes=8)


class Database:
    """A database that is as fast and as reliable as a test wants it."""

    def __init__(self) -> None:
        self.ended: set[UUID] = set()
        self.reads = 0
        self.hold: threading.Event | None = None
        self.error: Exception | None = None

    def read(self, alias: str, since: datetime) -> set[UUID]:
        """Answer as `ended_sessions` does."""
        self.reads += 1
        found = set(self.ended)
        if self.hold is not None:
            self.hold.wait()
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture
def database() -> Iterator[Database]:
    one = Database()
    yield one
    if one.hold is not None:
        one.hold.set()


@pytest.fixture
def revocations(database: Database) -> RevocationList:
    return RevocationList(
        interval=timedelta(seconds=INTERVAL),
        max_age=timedelta(seconds=MAX_AGE),
        window=WINDOW,
        clock=time.time,
        read=database.read,
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
def test_one_read_an_interval_whatever_is_asked(
    revocations: RevocationList, database: Database, check: Check
) -> None:
    ended, other = uuid4(), uuid4()
    database.ended = {ended}
    began = time.monotonic()
    while time.monotonic() - began < 0.8 * INTERVAL:
        assert check(revocations, ended) == "session_ended"
        assert check(revocations, other) == "good"
    assert database.reads <= 1 + (time.monotonic() - began) / INTERVAL
    before = database.reads
    time.sleep(INTERVAL)
    check(revocations, other)
    assert database.reads == before + 1


@both_paths
def test_after_a_long_rest_everybody_waits_for_the_news(
    revocations: RevocationList, database: Database, check: Check, clock: Clock
) -> None:
    session = uuid4()
    assert check(revocations, session) == "good"
    clock.move(minutes=10)
    database.ended = {session}
    with ThreadPoolExecutor(8) as pool:
        verdicts = set(pool.map(lambda _: sync_check(revocations, session), range(8)))
    assert verdicts == {"session_ended"}
    assert database.reads == 2


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_stepped_wall_clock_makes_a_list_old(
    revocations: RevocationList, database: Database, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    session, step = uuid4(), 0
    rules = revocations._rules
    object.__setattr__(rules, "clock", lambda: time.time() + step)
    assert sync_check(revocations, session) == "good"
    step, database.ended = seconds, {session}
    assert sync_check(revocations, session) == "session_ended"


@pytest.mark.parametrize("clock", ["time", "monotonic"])
@pytest.mark.parametrize("seconds", [-3600, -1.01 * INTERVAL, 1.01 * INTERVAL, 3600])
def test_nobody_vouches_by_an_old_list(
    revocations: RevocationList, monkeypatch: pytest.MonkeyPatch, clock: str, seconds: float
) -> None:
    claims = claims_of(uuid4())
    now, tick = time.time(), time.monotonic()
    monkeypatch.setattr(revocation.time, "monotonic", lambda: tick)
    object.__setattr__(revocations._rules, "clock", lambda: now)
    # Before anybody has asked there is no list.
    assert not revocations.vouch(claims, now)
    revocations.check(claims)
    assert revocations.vouch(claims, now)
    if clock == "time":
        now += seconds
    else:
        tick += seconds
    assert not revocations.vouch(claims, now)


def test_nobody_vouches_for_who_was_ended_or_by_half_a_list(
    revocations: RevocationList, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, other = uuid4(), uuid4()
    database.ended = {ended}
    assert sync_check(revocations, other) == "good"
    assert revocations.vouch(claims_of(other), time.time())
    assert not revocations.vouch(claims_of(ended), time.time())
    one = revocations._list()
    one.add([other])
    assert not revocations.vouch(claims_of(other), time.time())
    monkeypatch.setattr(revocation, "LONGEST_LIST", 1)
    one.add([uuid4()])
    assert not revocations.vouch(claims_of(uuid4()), time.time())


def test_nobody_vouches_once_a_list_is_known_to_be_old(revocations: RevocationList) -> None:
    claims = claims_of(uuid4())
    revocations.check(claims)
    revocations._list().look_again()
    assert not revocations.vouch(claims, time.time())


def test_nobody_vouches_by_a_read_that_was_under_way_then(
    revocations: RevocationList, database: Database
) -> None:
    database.hold = threading.Event()
    claims = claims_of(uuid4())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sync_check, revocations, claims.session_id)
        while not database.reads:
            time.sleep(0.001)
        revocations._list().look_again()
        database.hold.set()
        assert waiting.result() == "good"
    assert not revocations.vouch(claims, time.time())


@pytest.mark.django_db
def test_a_router_says_whose_list_it_is(
    revocations: RevocationList, database: Database, settings: Any
) -> None:
    revocations.check(claims_of(uuid4()))
    assert revocations.vouch(claims_of(uuid4()), time.time())
    settings.DATABASE_ROUTERS = ["tests.test_revocation.Elsewhere"]
    assert not revocations.vouch(claims_of(uuid4()), time.time())


class Elsewhere:
    """Sends sessions to a database of their own."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "elsewhere"


@both_paths
def test_a_database_that_fails(
    revocations: RevocationList,
    database: Database,
    check: Check,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended, other = uuid4(), uuid4()
    database.ended = {ended}
    assert check(revocations, ended) == "session_ended"
    database.error = OperationalError("gone away")
    time.sleep(INTERVAL)
    # The old list serves, and one attempt is made an interval.
    began = time.monotonic()
    for _ in range(20):
        assert check(revocations, ended) == "session_ended"
        assert check(revocations, other) == "good"
    intervals = (time.monotonic() - began) / INTERVAL
    assert database.reads <= 2 + intervals
    assert (
        len([one for one in caplog.records if one.module in {"models", "revocation"}])
        <= 1 + intervals
    )
    time.sleep(MAX_AGE)
    assert check(revocations, other) == "unavailable"
    database.error = None
    time.sleep(INTERVAL)
    assert check(revocations, ended) == "session_ended"
    assert check(revocations, other) == "good"


@both_paths
def test_a_database_that_never_answered(
    revocations: RevocationList, database: Database, check: Check
) -> None:
    database.error = RuntimeError("what is this?")
    assert check(revocations, uuid4()) == "unavailable"


@both_paths
def test_a_database_that_hangs_holds_nobody(
    revocations: RevocationList,
    database: Database,
    check: Check,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = uuid4()
    assert check(revocations, session) == "good"
    database.hold = threading.Event()
    time.sleep(INTERVAL)
    waits, verdicts = [], []
    began = time.monotonic()
    while time.monotonic() - began < MAX_AGE + 2 * INTERVAL:
        asked = time.monotonic()
        verdicts.append(check(revocations, session))
        waits.append(time.monotonic() - asked)
        time.sleep(0.005)
    assert max(waits) < INTERVAL + 0.2
    assert verdicts[0] == "good"
    assert verdicts[-1] == "unavailable"
    assert 2 <= database.reads <= 1 + revocation.MOST_READERS
    assert "late" in caplog.text

    database.ended = {session}
    database.hold.set()
    database.hold = None
    time.sleep(INTERVAL)
    # The last read was late, so the next one is not waited for.
    check(revocations, session)
    time.sleep(INTERVAL / 2)
    assert check(revocations, session) == "session_ended"
    assert revocations._lists["default"]._running == []


@both_paths
def test_a_slow_database_has_nobody_wait(
    revocations: RevocationList,
    database: Database,
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = database.read

    def slowly(alias: str, since: datetime) -> set[UUID]:
        time.sleep(1.5 * INTERVAL)
        return read(alias, since)

    check(revocations, uuid4())
    object.__setattr__(revocations._rules, "read", slowly)
    ended, waits = uuid4(), []
    began = time.monotonic()
    while time.monotonic() - began < 8 * INTERVAL:
        asked = time.monotonic()
        verdict = check(revocations, ended)
        waits.append(time.monotonic() - asked)
        time.sleep(0.005)
        if time.monotonic() - began > 4 * INTERVAL:
            database.ended = {ended}
    # One wait, until it is known that the database is slow.
    assert sum(wait > INTERVAL / 2 for wait in waits) <= 1
    assert verdict == "session_ended"


def test_no_more_than_so_many_readers_hang(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = RevocationList(
        interval=timedelta(seconds=0.01),
        max_age=timedelta(seconds=60),
        window=WINDOW,
        clock=time.time,
        read=database.read,
    )
    database.hold = threading.Event()
    for _ in range(3 * revocation.MOST_READERS):
        assert sync_check(one, uuid4()) == "unavailable"
    assert database.reads == revocation.MOST_READERS


@both_paths
def test_where_no_thread_runs_a_request_reads(
    revocations: RevocationList,
    database: Database,
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation._DatabaseList, "_work", lambda one, readings: None)
    monkeypatch.setattr(revocation, "STARTING", 0.05)
    session = uuid4()
    database.ended = {session}
    assert check(revocations, session) == "session_ended"
    assert database.reads == 1
    # Once that is known, nobody waits.
    time.sleep(INTERVAL)
    asked = time.monotonic()
    assert check(revocations, uuid4()) == "good"
    assert time.monotonic() - asked < INTERVAL / 2
    assert database.reads == 2


def test_a_thread_that_cannot_be_started_is_no_500(
    revocations: RevocationList, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = uuid4()
    database.ended = {session}
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        patch.setattr(revocation, "STARTING", 0.05)
        assert sync_check(revocations, session) == "session_ended"
    time.sleep(INTERVAL)
    assert sync_check(revocations, session) == "session_ended"


def test_a_connection_that_fails_before_the_read_is_a_failed_read(
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


def test_a_long_list_of_our_own_is_asked_for(
    revocations: RevocationList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "LONGEST_LIST", 3)
    assert sync_check(revocations, uuid4()) == "good"
    one = revocations._list()
    one.add([uuid4() for _ in range(4)])
    assert one._snapshot is not None
    assert (one._snapshot.complete, one._snapshot.session_ids) == (False, set())


def test_a_reader_that_fails_is_replaced(
    revocations: RevocationList, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = revocations._list()
    with monkeypatch.context() as patch:
        patch.setattr(one, "_read", lambda reading: 1 / 0)
        assert sync_check(revocations, uuid4()) == "unavailable"
    began = time.monotonic()
    while one._reader is not None and time.monotonic() - began < 5:
        time.sleep(0.01)
    assert one._reader is None
    session = uuid4()
    database.ended = {session}
    assert sync_check(revocations, session) == "session_ended"


def test_when_all_readers_hang_another_is_tried_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "RETRY", 0.5)
    one = RevocationList(
        interval=timedelta(seconds=0.01),
        max_age=timedelta(seconds=0.5),
        window=WINDOW,
        clock=time.time,
        read=database.read,
    )
    database.hold = threading.Event()
    while database.reads < revocation.MOST_READERS:
        assert sync_check(one, uuid4()) == "unavailable"
    # The database is back, and the connections that hang do not know of it.
    hold, database.hold = database.hold, None
    assert sync_check(one, uuid4()) == "unavailable"
    time.sleep(0.5)
    assert sync_check(one, uuid4()) == "good"
    hold.set()


def test_a_frozen_clock_leaves_nothing_behind(
    revocations: RevocationList, database: Database
) -> None:
    with time_machine.travel(datetime(2099, 1, 1, tzinfo=UTC), tick=False):
        assert sync_check(revocations, uuid4()) == "good"
    session = uuid4()
    database.ended = {session}
    assert sync_check(revocations, session) == "session_ended"


def test_a_reader_that_nobody_asks_ends(
    revocations: RevocationList, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "IDLE_SECONDS", 0.01)
    sync_check(revocations, uuid4())
    time.sleep(0.1)
    assert revocations._lists["default"]._reader is None
    time.sleep(INTERVAL)
    session = uuid4()
    database.ended = {session}
    assert sync_check(revocations, session) == "session_ended"


def test_what_ends_while_a_list_is_read_is_not_lost(
    revocations: RevocationList, database: Database
) -> None:
    session = uuid4()
    database.hold = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sync_check, revocations, uuid4())
        while not database.reads:
            time.sleep(0.001)
        revocations._list().add([session])
        database.hold.set()
        assert waiting.result() == "good"
    assert sync_check(revocations, session) == "session_ended"


def test_an_overtaken_read_changes_nothing(revocations: RevocationList) -> None:
    one = revocations._list()
    early = revocation._Reading(1.0, time.time())
    late = revocation._Reading(2.0, time.time())
    session = uuid4()
    one._keep(late, {session})
    one._keep(early, set())
    assert one._snapshot is not None
    assert one._snapshot.session_ids == {session}


def test_a_request_that_leaves_while_it_waits_holds_nobody(
    revocations: RevocationList, database: Database
) -> None:
    database.hold = threading.Event()
    session = uuid4()
    database.ended = {session}

    @async_to_sync
    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(revocations.acheck(claims_of(session))) for _ in range(5)]
        await asyncio.sleep(INTERVAL / 4)
        assert database.reads == 1
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


@pytest.mark.django_db(transaction=True)
class TestWithCommits:
    """The list as its own thread reads it, outside of any test's transaction."""

    @pytest.fixture
    def pair(self, make_user: Any) -> sessions.TokenPair:
        pair = sessions.start(make_user())
        verify(pair.access_token)
        return pair

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

    def test_the_end_of_another_process_is_seen_within_the_interval(
        self, pair: sessions.TokenPair
    ) -> None:
        # As another process would: nobody here is told.
        LoginSession.objects.filter(pk=pair.session_id).end("elsewhere", timezone.now())
        began = time.monotonic()
        while not _is_refused(pair):
            time.sleep(0.01)
        assert time.monotonic() - began < 3

    def test_a_child_process_begins_anew(self, pair: sessions.TokenPair) -> None:
        before = current()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if runtime._current is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert current() is before


def _is_refused(pair: sessions.TokenPair) -> bool:
    try:
        verify(pair.access_token)
    except SessionEnded:
        return True
    return False
