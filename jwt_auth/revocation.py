"""Which sessions were ended before their time, known without asking for each request.

Two answers to the same question: `Lookups` asks the database every time, and
`RevocationList` keeps the ids of all sessions that were ended lately. Short as it
is, every process reads it whole, once per ``REVOCATION_INTERVAL``; nothing is shared.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar
from uuid import UUID
from weakref import ReferenceType, ref

from asgiref.sync import sync_to_async
from django.core import mail
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router, transaction

from jwt_auth.errors import SessionEnded, Unavailable
from jwt_auth.models import LoginSession, LoginSessionQuerySet, database_answers, in_test_case
from jwt_auth.tokens.claims import VerifiedClaims

logger = logging.getLogger("jwt_auth")

# A list longer than this is not read: requests then ask for their own session.
LONGEST_LIST = 10_000
# A database that hangs holds the thread that asks it. When so many hang, further ones
# are started a minute apart and no longer at the interval: the database may be back, and
# their connections not know of it for hours.
MOST_READERS = 8
RETRY = 60.0
# How long a thread may take to begin before it is thought that none ever runs.
STARTING = 1.0
# How many intervals old a list may be that serves while reads are late.
LATE_INTERVALS = 10
# A reader that nobody asks closes its connection and ends.
IDLE_SECONDS = 10


# Reads the list of one database: alias and since when.
Read = Callable[[str, datetime], set[UUID]]
T = TypeVar("T")


class Timing:
    """The monotonic clock, and waits that end after some seconds.

    `RevocationList` takes another one, whose clock a test moves by hand.
    """

    # Seconds that only grow; the system decides where they begin.
    monotonic = staticmethod(time.monotonic)

    def wait(self, event: Future[None], seconds: float) -> bool:
        """Wait until *event* is done. Return False if *seconds* pass before."""
        try:
            event.result(seconds)
        except TimeoutError:
            return False
        return True

    async def async_wait(self, event: Future[None], seconds: float) -> bool:
        """See wait(). A cancelled task does not cancel *event*, which others wait for."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(event), seconds)
        except TimeoutError:
            return False
        return True

    def take(self, queue: SimpleQueue[T], seconds: float) -> T | None:
        """Take the next item of *queue*. Return None if *seconds* pass before there is one."""
        try:
            return queue.get(timeout=seconds)
        except Empty:
            return None


class Revocations(Protocol):
    """Says of each token whether its session was ended before its time."""

    def check(self, claims: VerifiedClaims) -> None:
        """Refuse claims whose session was revoked.

        A session without a row is not revoked: only ended ones are ever deleted.

        Raises:
            SessionEnded: it was.
            Unavailable: the database did not say.
        """

    async def acheck(self, claims: VerifiedClaims) -> None:
        """See check()."""

    def vouch(self, claims: VerifiedClaims, now: float) -> bool:
        """Tell whether check() would let *claims* pass *now*, if nobody has to be asked.

        False means that check() has to say.
        """

    def note(self, session_ids: Collection[UUID]) -> None:
        """Hear that these sessions are being ended, perhaps in an open transaction."""


class Lookups:
    """Asks the database about each session: one query by primary key."""

    def check(self, claims: VerifiedClaims) -> None:
        """See Revocations."""
        with database_answers():
            revoked = _row(claims).exists()
        _refuse_if(revoked)

    async def acheck(self, claims: VerifiedClaims) -> None:
        """See Revocations."""
        with database_answers():
            revoked = await _row(claims).aexists()
        _refuse_if(revoked)

    def vouch(self, claims: VerifiedClaims, now: float) -> bool:
        """The database has to be asked."""
        return False

    def note(self, session_ids: Collection[UUID]) -> None:
        """Nothing is remembered, so nothing has to be noted."""


class RevocationList:
    """Keeps the sessions that were ended within *window*, one list per database.

    Older ones need no mention: their access tokens have expired. A list is renewed at
    the age of *interval* by a thread of its own, for which requests wait no longer
    than *interval*. If it fails or is late, the old list serves until *max_age*, and
    then requests are answered 503. *clock* returns POSIX seconds.
    """

    def __init__(
        self,
        *,
        interval: timedelta,
        max_age: timedelta,
        window: timedelta,
        clock: Callable[[], float],
        read: Read | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._rules = _Rules(
            interval=interval.total_seconds(),
            max_age=max_age.total_seconds(),
            window=window,
            clock=clock,
            read=read or ended_sessions,
            timing=timing or Timing(),
        )
        self._monotonic = self._rules.timing.monotonic
        self._lists: dict[str, _DatabaseList] = {}

    def check(self, claims: VerifiedClaims) -> None:
        """See Revocations."""
        # Before the list, which is given a session before it ceases to be pending.
        is_pending = self._list().is_pending(claims.session_id)
        snapshot = self.current()
        _refuse_if(claims.session_id in snapshot.session_ids)
        if is_pending or not snapshot.complete:
            with database_answers():
                revoked = _row(claims).exists()
            _refuse_if(revoked)

    async def acheck(self, claims: VerifiedClaims) -> None:
        """See Revocations."""
        one = self._list()
        is_pending = one.is_pending(claims.session_id)
        snapshot = one.fresh(self._rules.clock())
        if snapshot is None:
            # Only the thread of a test knows of the transaction that is open there; for
            # other reasons nobody has to wait for a thread.
            renew = sync_to_async(one.renew) if _are_tests_running() else None
            await one.await_(one.renew() if renew is None else await renew())
            snapshot = one.usable()
        _refuse_if(claims.session_id in snapshot.session_ids)
        if is_pending or not snapshot.complete:
            with database_answers():
                revoked = await _row(claims).aexists()
            _refuse_if(revoked)

    def vouch(self, claims: VerifiedClaims, now: float) -> bool:
        """See Revocations."""
        # A router may send each request elsewhere; without one there is nothing to ask.
        one = self._lists.get(
            router.db_for_write(LoginSession) if router.routers else DEFAULT_DB_ALIAS
        )
        snapshot = None if one is None else one.vouching
        if snapshot is None:
            return False
        # By both clocks, as _age() does. One that goes back is left to check().
        if not snapshot.began <= self._monotonic() < snapshot.ends:
            return False
        if not snapshot.began_at <= now < snapshot.ends_at:
            return False
        # Mostly nobody was logged out lately, and a UUID takes its time to be looked up.
        return not snapshot.session_ids or claims.session_id not in snapshot.session_ids

    def current(self) -> Snapshot:
        """Return the list, renewed if it is time.

        Raises:
            Unavailable: there is none, or none that is young enough.
        """
        one = self._list()
        snapshot = one.fresh(self._rules.clock())
        if snapshot is None:
            one.wait(one.renew())
            snapshot = one.usable()
        return snapshot

    def note(self, session_ids: Collection[UUID]) -> None:
        """Add the sessions as soon as their end is committed."""
        one = self._list()
        add = partial(one.add, session_ids)
        if transaction.get_connection(one.alias).in_atomic_block:
            # The transaction may be a test's, which is never committed: look again.
            one.look_again()
            # Another function that runs on commit may raise, and this one is then never called.
            one.ask_until_over(session_ids, add)
        transaction.on_commit(add, using=one.alias)

    def _list(self) -> _DatabaseList:
        alias = router.db_for_write(LoginSession)
        one = self._lists.get(alias)
        if one is None:
            # Of several threads one wins, and all have the winner's.
            one = self._lists.setdefault(alias, _DatabaseList(alias, self._rules))
        return one


@dataclass(frozen=True, slots=True)
class _Rules:
    """How old a list may be, in seconds, and how it is read."""

    interval: float
    max_age: float
    window: timedelta
    clock: Callable[[], float]
    read: Read
    timing: Timing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The list as a read found it, plus what this process has ended since it began.

    `complete` is False when the list is too long to be read. By the monotonic clock the read
    began at `began`, and the list has the age of the interval at `ends`; by the wall clock at
    `began_at` and `ends_at`.
    """

    session_ids: set[UUID]
    complete: bool
    number: int
    began: float
    began_at: float
    ends: float
    ends_at: float


class _Reading:
    """One attempt to read the list: when it began, and what ended since then."""

    # Not the time: a test may have moved it back.
    _numbers = itertools.count(1)

    def __init__(self, began: float, began_at: float) -> None:
        self.number = next(self._numbers)
        self.began = began
        self.began_at = began_at
        self.ended_since: set[UUID] = set()
        # The pending ends that had come to their commit or rollback when it began.
        self.settles: dict[UUID, ReferenceType[object]] = {}
        # Whether the transaction it runs in may see less than others have committed.
        self.isolated = False
        # Whether no thread could be started for it.
        self.unattended = False
        self.claimed = False
        self.failed = False
        self.finished = _event()


def _event() -> Future[None]:
    """Return an event that threads and tasks can wait for.

    It is marked as running, so that a waiter that is cancelled does not cancel it for all.
    """
    event: Future[None] = Future()
    event.set_running_or_notify_cancel()
    return event


class _DatabaseList:
    """The list of one database. Its lock is held for moments, never over a query."""

    def __init__(self, alias: str, rules: _Rules) -> None:
        self.alias = alias
        self._stale = False
        self._rules = rules
        self._timing = rules.timing
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        # The same, if it says enough by itself for as long as it is fresh.
        self.vouching: Snapshot | None = None
        self._late = False
        # Sessions that are being ended, each with the function that is to run on commit. Django
        # drops it after the commit or the rollback.
        self._pending: dict[UUID, ReferenceType[object]] = {}
        # Done once any reader thread has run.
        self._has_run = _event()
        # Whether a request has waited in vain for a thread to run, and none has run since.
        self._without_threads = False
        # When a thread may be started again, after the system has refused one.
        self._next_start = -math.inf
        self._newest: _Reading | None = None
        self._running: list[_Reading] = []
        self._reader: SimpleQueue[_Reading] | None = None

    def fresh(self, now: float) -> Snapshot | None:
        """Return the list if it is younger than the interval *now* (POSIX seconds)."""
        snapshot = self._snapshot
        if snapshot is None or self._stale or self._age(snapshot, now) >= self._rules.interval:
            return None
        return snapshot

    def look_again(self) -> None:
        """Have the next request see to a new list."""
        with self._lock:
            self._stale = True
            self.vouching = None

    def is_pending(self, session_id: UUID | None) -> bool:
        """Tell whether the database has to say if this session has ended."""
        return session_id in self._pending

    def ask_until_over(self, session_ids: Collection[UUID], on_commit: Callable[[], None]) -> None:
        """Have the database asked about these sessions while their transaction is open.

        Django keeps *on_commit* until the transaction is over. The list decides again once it
        was read since then.
        """
        with self._lock:
            self._pending |= dict.fromkeys(session_ids, ref(on_commit))
            self.vouching = None

    def usable(self) -> Snapshot:
        """Return the list, of whatever age up to the greatest.

        Raises:
            Unavailable: there is none.
        """
        snapshot = self._snapshot
        if snapshot is None or self._age(snapshot, self._rules.clock()) > self._rules.max_age:
            raise Unavailable
        return snapshot

    def renew(self) -> _Reading | None:
        """Have the list read. Return what to wait for; `None` if it is there, or won't be."""
        if in_test_case(self.alias):
            self._read_in_place()
            return None
        with self._lock:
            newest, now = self._newest, self._timing.monotonic()
            since = math.inf if newest is None else abs(now - newest.began)
            if newest is not None and since < self._rules.interval:
                if not newest.finished.done():
                    return newest
                if newest.failed:
                    # One attempt per interval.
                    return None
            if self.fresh(self._rules.clock()) is not None:
                return None
            if len(self._running) >= MOST_READERS and since < max(self._rules.max_age, RETRY):
                return None
            return self._begin(_Reading(now, self._rules.clock()))

    def wait(self, reading: _Reading | None) -> None:
        """Wait until *reading* has finished, or is late."""
        if reading is None:
            return
        if not (reading.unattended or self._without_threads):
            if self._serves_late() or self._timing.wait(reading.finished, self._patience(reading)):
                return
            self._late = True
            if self._timing.wait(self._has_run, STARTING):
                return
            self._without_threads = True
        if self._claim(reading):
            self._read_here(reading)
        elif not self._serves_late():
            # Another request reads.
            in_time = self._timing.wait(reading.finished, self._patience(reading))
            self._late = self._late or not in_time

    async def await_(self, reading: _Reading | None) -> None:
        """See wait()."""
        if reading is None:
            return
        if not (reading.unattended or self._without_threads):
            if self._serves_late() or await self._timing.async_wait(
                reading.finished, self._patience(reading)
            ):
                return
            self._late = True
            if await self._timing.async_wait(self._has_run, STARTING):
                return
            self._without_threads = True
        if self._claim(reading):
            await sync_to_async(self._read_here)(reading)
        elif not self._serves_late():
            in_time = await self._timing.async_wait(reading.finished, self._patience(reading))
            self._late = self._late or not in_time

    def _serves_late(self) -> bool:
        """Tell whether the old list serves without a wait, because the last read was late.

        Otherwise a database that needs longer than an interval would have every
        request wait for one, for ever.
        """
        snapshot = self._snapshot
        oldest = min(self._rules.max_age, LATE_INTERVALS * self._rules.interval)
        now = self._rules.clock()
        return self._late and snapshot is not None and self._age(snapshot, now) <= oldest

    def add(self, session_ids: Collection[UUID]) -> None:
        """Note sessions whose end is committed."""
        with self._lock:
            self._add(session_ids)
            for session_id in session_ids:
                self._pending.pop(session_id, None)

    def _add(self, session_ids: Collection[UUID]) -> None:
        # A read that is under way may have begun before the commit.
        for reading in self._running:
            reading.ended_since.update(session_ids)
        snapshot = self._snapshot
        if snapshot is None:
            return
        snapshot.session_ids.update(session_ids)
        if len(snapshot.session_ids) > LONGEST_LIST:
            # As if it had been read too long: requests ask for their own session.
            self._snapshot = dataclasses.replace(snapshot, session_ids=set(), complete=False)
            self.vouching = None

    def _age(self, snapshot: Snapshot, now: float) -> float:
        # The monotonic clock stands still while a machine sleeps, and the wall clock
        # jumps: whichever says "old" is believed.
        return max(abs(self._timing.monotonic() - snapshot.began), abs(now - snapshot.began_at))

    def _patience(self, reading: _Reading) -> float:
        waited = abs(self._timing.monotonic() - reading.began)
        return max(0.0, self._rules.interval - waited)

    def _begin(self, reading: _Reading) -> _Reading:
        late = self._newest is not None and not self._newest.finished.done()
        self._newest = reading
        self._running.append(reading)
        self._stale = False
        reading.settles = self._over()
        if late:
            logger.warning("The list of ended sessions is late; the old one serves meanwhile.")
        if self._reader is None or late:
            # Whoever hangs is left behind, and ends when its answer comes.
            self._reader = self._start_reader()
        if self._reader is not None:
            self._reader.put(reading)
        else:
            reading.unattended = True
        return reading

    def _over(self) -> dict[UUID, ReferenceType[object]]:
        """Return the pending ends whose transaction is over, whichever way."""
        return {pk: on_commit for pk, on_commit in self._pending.items() if on_commit() is None}

    def _start_reader(self) -> SimpleQueue[_Reading] | None:
        now = self._timing.monotonic()
        if now < self._next_start:
            return None
        readings: SimpleQueue[_Reading] = SimpleQueue()
        thread = threading.Thread(
            target=self._work, args=(readings,), name="jwt_auth.revocation", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            self._next_start = now + RETRY
            logger.exception(
                "No thread could be started to read the list of ended sessions; requests read it."
            )
            return None
        return readings

    def _work(self, readings: SimpleQueue[_Reading]) -> None:
        """Read whenever asked: the body of the reader's thread.

        A thread of its own, because a database that hangs holds whoever asks it, and
        because the transaction of a request may see an older state than the others.
        """
        with self._lock:
            self._without_threads = False
            if not self._has_run.done():
                self._has_run.set_result(None)
        connection = connections[self.alias]
        try:
            while (reading := self._next(readings)) is not None:
                if not self._claim(reading):
                    continue
                self._read(reading, connection.close_if_unusable_or_obsolete)
                if _is_due(connection.close_at):
                    connection.close()
                if self._reader is not readings:
                    return
        except Exception:
            logger.exception("The reader of the list of ended sessions failed.")
        finally:
            with self._lock:
                if self._reader is readings:
                    self._reader = None
            connection.close()
            if connection.connection is not None:
                # Django leaves a connection to a database in memory open.
                connection.connection.close()

    def _next(self, readings: SimpleQueue[_Reading]) -> _Reading | None:
        """Wait for the next reading; `None` when nobody asks any more."""
        reading = self._timing.take(readings, IDLE_SECONDS)
        if reading is not None:
            return reading
        with self._lock:
            if not readings.empty():
                return readings.get()
            if self._reader is readings:
                self._reader = None
        return None

    def _claim(self, reading: _Reading) -> bool:
        """Take *reading* on: its thread does, or, where none ever runs, who waits for it."""
        with self._lock:
            claimed, reading.claimed = reading.claimed, True
        return not claimed

    def _read(self, reading: _Reading, prepare: Callable[[], object] | None = None) -> None:
        """Carry *reading* out, and tell whoever waits for it, however it ends.

        *prepare* looks after the connection: Django's own rule between requests. It
        may hang like a read, and is waited for alike.
        """
        found: set[UUID] | None = None
        try:
            with database_answers():
                if prepare is not None:
                    prepare()
                found = self._query()
        except Unavailable:
            reading.failed = True
        except Exception:
            logger.exception("The list of ended sessions could not be read.")
            reading.failed = True
        with self._lock:
            self._running.remove(reading)
            self._late = abs(self._timing.monotonic() - reading.began) >= self._rules.interval
            if found is not None:
                self._keep(reading, found)
        reading.finished.set_result(None)

    def _read_here(self, reading: _Reading) -> None:
        """Carry *reading* out on the connection of a request that no thread reads for.

        A server that runs no threads but its own, as uWSGI without ``--enable-threads``,
        would otherwise never have a list.
        """
        if transaction.get_connection(self.alias).in_atomic_block:
            # REPEATABLE READ sees what was committed when it began: the read may only add.
            reading.isolated = True
            # An error must not abort the transaction that is open here.
            with suppress(DatabaseError), transaction.atomic(using=self.alias):
                self._read(reading)
        else:
            self._read(reading)

    def _read_in_place(self) -> None:
        """Read on the caller's connection, inside of a test's transaction.

        It may see less than what others have committed, so it only adds.
        """
        with self._lock:
            self._stale = False
            reading = _Reading(self._timing.monotonic(), self._rules.clock())
            reading.settles = self._over()
            if self._snapshot is not None:
                reading.ended_since |= self._snapshot.session_ids
        with suppress(Unavailable), database_answers():
            found = self._query()
            with self._lock:
                self._keep(reading, found)

    def _keep(self, reading: _Reading, found: set[UUID]) -> None:
        before = self._snapshot
        if before is not None and before.number > reading.number:
            # It was overtaken by a read that began later.
            return
        session_ids = reading.ended_since | found
        complete = len(found) <= LONGEST_LIST
        if reading.isolated and before is not None:
            session_ids |= before.session_ids
            complete = before.complete and len(session_ids) <= LONGEST_LIST
        interval = self._rules.interval
        self._snapshot = snapshot = Snapshot(
            session_ids if complete else reading.ended_since,
            complete,
            reading.number,
            began=reading.began,
            began_at=reading.began_at,
            ends=reading.began + interval,
            ends_at=reading.began_at + interval,
        )
        if not reading.isolated:
            self._settle(reading)
        says_enough = complete and not self._stale and not self._pending
        self.vouching = snapshot if says_enough else None

    def _settle(self, reading: _Reading) -> None:
        """Leave the ends to the list that were over when *reading* began."""
        for session_id, on_commit in reading.settles.items():
            # It may be pending anew, in a transaction that the read knows nothing of.
            if self._pending.get(session_id) is on_commit:
                del self._pending[session_id]

    def _query(self) -> set[UUID]:
        now = datetime.fromtimestamp(self._rules.clock(), UTC)
        return self._rules.read(self.alias, now - self._rules.window)


def ended_sessions(alias: str, since: datetime) -> set[UUID]:
    """Read which sessions were ended *since* then, but no more than one over the longest list.

    Whole, not only what is new: `revoked_at` is written before it is committed, and
    who asks for what came after the last read misses a transaction that took long.
    """
    # In the order of the index. PostgreSQL would take the first rows of the table for as good,
    # and walk through all that are dead when many sessions have just been ended.
    ended = LoginSession.objects.using(alias).filter(revoked_at__gte=since).order_by("revoked_at")
    return set(ended.values_list("pk", flat=True)[: LONGEST_LIST + 1])


def _is_due(close_at: float | None) -> bool:
    # CONN_MAX_AGE; and a connection that stays would keep a test database from being
    # dropped.
    return _are_tests_running() or (close_at is not None and time.monotonic() >= close_at)


def _are_tests_running() -> bool:
    # What django.test.utils.setup_test_environment() leaves.
    return hasattr(mail, "outbox")


def _row(claims: VerifiedClaims) -> LoginSessionQuerySet:
    """Return the query for the session of *claims*, if it was ended."""
    sessions = LoginSession.objects.on_primary().named(claims.session_id)
    return sessions.filter(revoked_at__isnull=False)


def _refuse_if(revoked: bool) -> None:
    if revoked:
        raise SessionEnded("revoked")
