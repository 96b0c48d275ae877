"""The one desk: sessions are started, refreshed and ended here, and nowhere else.

How a refresh works is told in ``docs/explanation/``; the rule behind the order of its
steps: spend last, and punish only by an UPDATE that repeats the finding.
"""

from __future__ import annotations

import copy
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import DataError, IntegrityError, OperationalError, router, transaction
from django.db.models import F, Q
from django.dispatch import Signal
from django.views.decorators.debug import sensitive_variables

from jwt_auth import signals
from jwt_auth.errors import (
    InvalidCredentials,
    RefreshNotValid,
    RefreshReused,
    SessionEnded,
    Unavailable,
)
from jwt_auth.models import (
    DEVICE_LENGTH,
    USER_AGENT_LENGTH,
    LoginSession,
    LoginSessionQuerySet,
    after_commit,
    database_answers,
    is_in_transaction,
)
from jwt_auth.runtime import Runtime, current
from jwt_auth.tokens.access import RESERVED, IssuedToken, SessionFacts
from jwt_auth.tokens.refresh import RefreshToken
from jwt_auth.transports import client_address, storable
from jwt_auth.users import is_active

Result = TypeVar("Result")

logger = logging.getLogger("jwt_auth")
security_logger = logging.getLogger("jwt_auth.security")

# How many sessions are ended by one statement.
BATCH = 500
# An end or a rotation that the database delayed by more than this is dated anew.
DATING_TOLERANCE = timedelta(seconds=1)
# How often a refresh looks again after somebody else changed the row.
ROUNDS = 4

# How much longer than necessary the rows of ended sessions are kept, by default.
KEPT = timedelta(days=1)

LOGOUT = "logout"
LOGOUT_ALL = "logout_all"
REUSED = "refresh_reused"
TOO_MANY = "too_many_sessions"
ADMINISTRATION = "administration"
USER_INACTIVE = "user_inactive"
USER_DELETED = "user_deleted"
PASSWORD_CHANGED = "password_changed"  # noqa: S105

# What a server says of two transactions in each other's way: PostgreSQL by
# SQLSTATE, MariaDB and MySQL by number, SQLite by text alone.
_CONFLICT_STATES = frozenset({"40001", "40P01", "55P03"})
_CONFLICT_NUMBERS = frozenset({1020, 1205, 1213})
# What is said when the server was lost before its answer: PostgreSQL nothing, or that it shuts
# down, MariaDB and MySQL a number. SQLite has no server.
_LOST_STATES = frozenset({None, "57P01", "57P02"})
_LOST_NUMBERS = frozenset({2013})


@dataclass(frozen=True, slots=True)
class TokenPair:
    """An access token and what continues it; lives are in whole seconds.

    Without sessions, `refresh_token`, `refresh_expires_in` and `session_id` are `None`.
    """

    access_token: str = field(repr=False)
    expires_in: int
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_in: int | None = None
    session_id: UUID | None = None

    def body(self) -> dict[str, str | int]:
        """Return the JSON object of RFC 6749 section 5.1, with `refresh_expires_in`."""
        body: dict[str, str | int] = {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }
        if self.refresh_token is not None and self.refresh_expires_in is not None:
            body["refresh_token"] = self.refresh_token
            body["refresh_expires_in"] = self.refresh_expires_in
        return body


@sensitive_variables()
def start(
    user: Any,
    request: Any = None,
    *,
    device: str = "",
    amr: Sequence[str] = (),
    claims: Mapping[str, Any] | None = None,
) -> TokenPair:
    """Sign *user* in: open a session and return its first pair.

    For whoever was let in by other means than the login view. No password is
    checked and none of Django's login signals is sent. *device* is a label of up to
    100 characters, *amr* how the user proved who they are (RFC 8176). *claims* are
    kept on the row and repeated in each access token, below those of ``CLAIMS``.

    Raises:
        InvalidCredentials: the user is inactive, anonymous, unsaved or gone, or was
            deactivated or given another password since *user* was read.
        ValueError: *claims* has a reserved name.
        Unavailable: the database, ``CLAIMS``, ``ROLES`` or the signing key failed.
    """
    runtime = current()
    now = runtime.clock()
    if getattr(user, "pk", None) is None or user._state.adding or not is_active(user):
        raise InvalidCredentials("an inactive or unsaved user")
    own_claims = dict(claims or {})
    if reserved := RESERVED & own_claims.keys():
        raise ValueError(f"claims has reserved names: {', '.join(sorted(reserved))}")
    idle_limit = runtime.settings.refresh_lifetime
    if idle_limit is None:
        issued = _access_token(runtime, user, request, own_claims, now, session=None)
        return TokenPair(issued.raw, issued.expires_in)
    token = RefreshToken.first()
    session = LoginSession(
        id=token.session_id,
        user=user,
        rotated_at=now,
        created_at=now,
        expires_at=now + runtime.settings.session_lifetime,
        password_mark=runtime.password_marks.current(user),
        amr=[amr] if isinstance(amr, str) else list(amr),
        claims=own_claims,
        device=storable(device, DEVICE_LENGTH),
    )
    if request is not None:
        session.ip = client_address(request)
        session.user_agent = storable(request.META.get("HTTP_USER_AGENT", ""), USER_AGENT_LENGTH)
    pair = _pair(runtime, session, token, idle_limit, request, now)
    _in_rounds(lambda: _insert(runtime, session))
    _announce(signals.session_started, session, request)
    _demand_same_user(session.pk, request)
    limit = runtime.settings.max_sessions
    if limit is not None:
        _once_committed(lambda: _end_the_least_used(user, limit, idle_limit))
    return pair


@sensitive_variables()
def refresh(raw: str, request: Any = None) -> TokenPair:
    """Trade the refresh token *raw* for a pair (RFC 6749 section 6).

    Within ``REFRESH_GRACE`` of a rotation every use of the old and of the new token
    leads to the same new one. Takes two statements, three with roles from groups,
    and opens no transaction: a refusal that ends the session must outlast the
    refusal.

    Raises:
        RefreshNotValid: not genuine. No query was made.
        SessionEnded: genuine, but the session is over.
        RefreshReused: genuine, replaced before; the session has just been ended.
        Unavailable: the database, ``CLAIMS``, ``ROLES`` or the signing key failed;
            nothing was spent.
        RuntimeError: called inside an atomic block.
    """
    return limited_refresh(raw, request, lambda session_id: None)


@sensitive_variables()
def limited_refresh(raw: str, request: Any, count: Callable[[UUID], None]) -> TokenPair:
    """Do what `refresh` does, unless *count* raises: the views limit how often it is done.

    *count* gets the session's id, once, when no refusal is left that ends the session or
    tells of its end. A limit in front of those would hide a thief, who shares it with the
    victim.
    """
    runtime = current()
    idle_limit = runtime.settings.refresh_lifetime
    if idle_limit is None:
        raise RefreshNotValid("there are no sessions")
    token = runtime.refresh_tokens.read(raw)
    _demand_autocommit()
    # Cached, so that a lost round is not counted again.
    count_once = functools.cache(count)
    return _in_rounds(lambda: _refresh_once(runtime, token, idle_limit, request, count_once))


@sensitive_variables()
def newest(raws: Collection[str]) -> str | None:
    """Return the one of *raws* that counts: several refresh tokens that one browser has sent.

    It is that of the newest session that lives, and the newest of that session. `None`: they
    are of different users, and one may have been planted. Takes one statement, and none if
    all are of one session.

    Raises:
        RefreshNotValid: none is genuine.
        Unavailable: the database failed.
    """
    runtime = current()
    genuine: dict[RefreshToken, str] = {}
    for raw in raws:
        with suppress(RefreshNotValid):
            genuine[runtime.refresh_tokens.read(raw)] = raw
    by_generation = sorted(genuine, key=lambda token: token.generation)
    newest_of = {token.session_id: token for token in by_generation}
    if not newest_of:
        raise RefreshNotValid("several, and none is genuine")
    if len(newest_of) == 1:
        return genuine[by_generation[-1]]
    live = LoginSession.objects.on_primary().live(
        runtime.clock(), runtime.settings.refresh_lifetime or timedelta(0)
    )
    with database_answers():
        newest_first = live.filter(pk__in=newest_of).order_by("-created_at", "pk")
        found = list(newest_first.values_list("pk", "user_id"))
    if len({user for _, user in found}) > 1:
        return None
    # If all are over, the refresh of any of them says so.
    session_id = found[0][0] if found else by_generation[-1].session_id
    return genuine[newest_of[session_id]]


def end(session_id: UUID, reason: str = LOGOUT, request: Any = None) -> bool:
    """End the session *session_id*. Return whether it had not ended before.

    Its access tokens are refused from now on. *reason* is kept on the row, cut to
    32 characters.

    Raises:
        Unavailable: the database failed.
    """
    sessions = LoginSession.objects.on_primary().filter(pk=session_id)
    return _end(sessions, reason, request) == 1


def end_all(
    user: Any,
    *,
    except_session: UUID | None = None,
    reason: str = LOGOUT_ALL,
    request: Any = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """End the sessions of *user*, but for *except_session*. Return how many ended.

    *progress* hears how many have ended so far.

    Raises:
        Unavailable: the database failed.
    """
    sessions = LoginSession.objects.on_primary().filter(user=user)
    if except_session is not None:
        sessions = sessions.exclude(pk=except_session)
    return _end(sessions, reason, request, progress)


def end_many(sessions: LoginSessionQuerySet, reason: str, request: Any = None) -> int:
    """End those of *sessions* that live, in batches. Return how many ended.

    Raises:
        Unavailable: the database failed. What has ended stays ended.
    """
    return _end(sessions.order_by().on_primary(), reason, request)


def end_everybody(
    *, reason: str = ADMINISTRATION, progress: Callable[[int], object] | None = None
) -> int:
    """End every session of every user, in batches. Return how many ended.

    *progress* hears how many have ended so far. To end access tokens at once where no
    list of ended sessions is kept, retire the signing key as well.

    Raises:
        Unavailable: the database failed. What has ended stays ended.
    """
    return _end(LoginSession.objects.on_primary(), reason, progress=progress)


def purge(*, kept: timedelta = KEPT, progress: Callable[[float, int], object] | None = None) -> int:
    """Delete the rows of sessions that ended at least *kept* ago. Return how many.

    For a command or a task, beside live traffic: the whole table is walked by primary
    key, in small batches of their own transactions, with a rest after each that is as
    long. Memory stays flat, and a run that was stopped loses nothing. A row that the
    list of ended sessions may still have to name is not deleted, however short *kept*
    is. *progress* hears what share of the table is done (0 to 1) and how many rows are
    deleted.

    Raises:
        Unavailable: the database failed. What is deleted stays deleted.
    """
    runtime = current()
    before = runtime.clock() - max(kept, runtime.revocation_window)
    table = LoginSession.objects.on_primary()
    over = table.over(before, runtime.settings.refresh_lifetime)
    last, deleted, done = UUID(int=0), 0, 0
    with database_answers():
        total = 0 if progress is None else table.count()
    while True:
        began = time.monotonic()
        with database_answers():
            walked = list(
                table.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]
            )
            if walked:
                # Named one by one: a range would lock the gaps that logins insert into.
                ended = list(over.filter(pk__in=walked).values_list("pk", flat=True))
                deleted += over.filter(pk__in=ended).delete()[0] if ended else 0
        done += len(walked)
        is_last = len(walked) < BATCH
        if progress is not None:
            progress(1.0 if is_last else min(1.0, done / max(total, 1)), deleted)
        if is_last:
            return deleted
        last = walked[-1]
        # Half of the time belongs to everybody else.
        time.sleep(abs(time.monotonic() - began))


def end_refused(sessions: LoginSessionQuerySet) -> int:
    """End those of *sessions* that a refresh would refuse for their user. Return how many.

    Each session is read together with its user's row. The row decides, because an object
    in memory may be stale or incomplete.

    Raises:
        Unavailable: the database failed.
    """
    runtime = current()
    return _end_judged(sessions, lambda session: _why_refused(runtime, session))


def note_rehash(sessions: LoginSessionQuerySet, user: Any, old_hash: str) -> None:
    """Note that the password of *user*, stored as *old_hash*, is getting a new hash.

    *sessions* are those of the user.

    Raises:
        Unavailable: the database failed.
    """
    marks = current().password_marks
    with database_answers():
        sessions.filter(marks.condition(old_hash)).update(
            password_mark=marks.after_rehash(old_hash, user)
        )


def forget_user(user: Any) -> None:
    """End the sessions of *user*, who is about to be deleted, and blank their traces.

    Raises:
        Unavailable: the database failed.
    """
    sessions = LoginSession.objects.on_primary().filter(user=user)
    # Write before reading: a transaction of SQLite that has read cannot wait to write.
    with database_answers():
        has_sessions = sessions.blank_traces() > 0
    if has_sessions:
        _end(sessions, USER_DELETED)


def end_of_nobody() -> int:
    """End the sessions whose user is gone, and blank their traces. Return how many ended.

    A login that meets the deletion of its user may leave one.

    Raises:
        Unavailable: the database failed.
    """
    orphans = LoginSession.objects.on_primary().filter(user__isnull=True)
    ended = _end(orphans, USER_DELETED)
    with database_answers():
        orphans.filter(~Q(device="") | Q(ip__isnull=False) | ~Q(user_agent="")).blank_traces()
    return ended


# A thread each: the ORM and the project's CLAIMS and ROLES are synchronous.
astart = sync_to_async(start)
arefresh = sync_to_async(refresh)
aend = sync_to_async(end)
aend_all = sync_to_async(end_all)


def _insert_row(runtime: Runtime, session: LoginSession) -> None:
    """Insert *session*, with labels in ASCII if the encoding of the database lacks a character."""
    alias = router.db_for_write(LoginSession)
    try:
        runtime.session_rows.insert(session, alias)
    except (DataError, UnicodeEncodeError):
        if session.device.isascii() and session.user_agent.isascii():
            raise
        session.device = _as_ascii(session.device)
        session.user_agent = _as_ascii(session.user_agent)
        runtime.session_rows.insert(session, alias)


def _as_ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


class _LostRound(Exception):
    """Somebody else changed the row since it was read."""


def _refresh_once(
    runtime: Runtime,
    token: RefreshToken,
    idle_limit: timedelta,
    request: Any,
    count: Callable[[UUID], None],
) -> TokenPair:
    settings, now = runtime.settings, runtime.clock()
    sessions = LoginSession.objects.on_primary()
    session = runtime.session_rows.get(token.session_id, sessions.db)
    if (
        session is None
        or session.user is None
        or session.revoked_at is not None
        or now >= session.ends_at(idle_limit)
    ):
        raise SessionEnded("no such session, or it is over")
    if (reason := _why_refused(runtime, session)) is not None:
        _revoke_as_read(sessions, session, reason, request, now)
        raise SessionEnded(reason)

    young = _is_young(session, settings.refresh_grace, now)
    oldest_good = session.generation - 1 if young else session.generation
    if token.generation < oldest_good:
        _revoke_as_read(sessions, session, REUSED, request, now)
        _report_reuse(runtime, session, token, request)
        raise RefreshReused
    count(session.pk)
    if young and token.generation <= session.generation:
        # A retry, or a burst of requests with one cookie jar: the one successor
        # again, and nothing is written.
        current_token = token.of_generation(session.generation)
        return _pair(runtime, session, current_token, idle_limit, request, now)
    if token.generation > session.generation:
        # Only we could have minted it, so the database went back: a restored backup,
        # or a replica that took over too early. The token knows better.
        security_logger.warning(
            "Session %s is at generation %d and was shown a genuine token of generation %d.",
            session.pk,
            session.generation,
            token.generation,
        )
    successor = token.of_generation(token.generation + 1)
    changes: dict[str, Any] = {"generation": successor.generation, "rotated_at": now}
    mark = runtime.password_marks.renewal(session.password_mark, session.user)
    if mark is not None:
        changes["password_mark"] = mark
    rotated = copy.copy(session)
    for name, value in changes.items():
        setattr(rotated, name, value)
    # Everything that can fail comes first. Spend last.
    pair = _pair(runtime, rotated, successor, idle_limit, request, now)
    # Now: the grace is counted from the rotation, and CLAIMS may have taken its time.
    changes["rotated_at"] = rotated.rotated_at = runtime.clock()
    try:
        if not sessions.rotate(session, **changes):
            raise _LostRound
    except OperationalError as error:
        if not _is_unanswered(error):
            raise
        # Committed or not, nobody knows. The successor is good in both cases, since a token
        # ahead of its row is taken; the old one is not, once the grace is over.
        logger.warning("The database was lost before it answered a rotation.", exc_info=True)
        return pair
    _date_rotation(sessions, rotated)
    _announce(signals.session_refreshed, rotated, request)
    return pair


def _why_refused(runtime: Runtime, session: LoginSession) -> str | None:
    if not is_active(session.user):
        return USER_INACTIVE
    if not runtime.password_marks.match(session.password_mark, session.user):
        return PASSWORD_CHANGED
    return None


def _is_young(session: LoginSession, grace: timedelta, now: datetime) -> bool:
    # abs(): clocks of two hosts differ, and a rotation may seem to lie ahead. A
    # session that was never rotated has nothing to be handed back.
    return (
        grace > timedelta(0) and session.generation > 0 and abs(now - session.rotated_at) <= grace
    )


def _revoke_as_read(
    sessions: LoginSessionQuerySet,
    session: LoginSession,
    reason: str,
    request: Any,
    now: datetime,
) -> None:
    ended_at = _ended_at([session], now)
    if not sessions.revoke(session, reason, ended_at):
        raise _LostRound
    session.revoked_at, session.revoked_reason = ended_at, reason
    # Logged where it fails. The session has ended, and the refusal says so.
    with suppress(Unavailable):
        _settle_end([session], request)


def _settle_end(ended: Sequence[LoginSession], request: Any) -> None:
    """Do what follows the end of sessions, all with one `revoked_at`, in this process."""
    revocations = current().authenticator.revocations
    if revocations is not None:
        revocations.note([session.pk for session in ended])
    try:
        _date_end(ended)
        after_commit(lambda: _date_end(ended), router.db_for_write(LoginSession))
    finally:
        for session in ended:
            _announce(signals.session_ended, session, request)


def _date_end(ended: Sequence[LoginSession]) -> None:
    """Date the end of sessions to now if a lock or an open transaction delayed it.

    An access token that was issued before the effect may outlive a list that reaches
    back from the intention.
    """
    written, now = ended[0].revoked_at, current().clock()
    if written is None or now - written <= DATING_TOLERANCE:
        return
    pks = [session.pk for session in ended]
    rows = LoginSession.objects.on_primary().filter(pk__in=pks, revoked_at=written)
    _in_rounds(lambda: rows.update(revoked_at=now))
    for session in ended:
        session.revoked_at = now


def _date_rotation(sessions: LoginSessionQuerySet, rotated: LoginSession) -> None:
    """Date a rotation to now if the database delayed it: the grace begins with its effect."""
    written, now = rotated.rotated_at, current().clock()
    if now - written <= DATING_TOLERANCE:
        return
    rows = sessions.filter(pk=rotated.pk, generation=rotated.generation, rotated_at=written)
    # Logged where it fails. The rotation is committed, and its pair must reach the client.
    with suppress(Unavailable):
        _in_rounds(lambda: rows.update(rotated_at=now))
        rotated.rotated_at = now


def _report_reuse(
    runtime: Runtime, session: LoginSession, token: RefreshToken, request: Any
) -> None:
    if runtime.records.allows("reuse", session.user_id):
        security_logger.warning(
            "A replaced refresh token (generation %d of %d) was used for session %s of user %s, "
            "opened from %s, now from %s; the session was ended.",
            token.generation,
            session.generation,
            session.pk,
            ascii(session.user_id)[:100],
            session.ip,
            None if request is None else client_address(request),
        )
    _announce(signals.refresh_reused, session, request)


def _insert(runtime: Runtime, session: LoginSession) -> None:
    try:
        _insert_row(runtime, session)
    except IntegrityError:
        raise InvalidCredentials("the user is gone") from None


def _demand_same_user(session_id: UUID, request: Any) -> None:
    """End the new session if its user has changed since the login read them.

    An end that ran before the INSERT could not see the session. Its cause is committed
    by now, so the row tells of it. In a transaction, look again after the commit.

    Raises:
        InvalidCredentials: the user is gone or inactive, or has another password.
        Unavailable: the database failed.
    """
    if (reason := _end_if_stale(session_id, request)) is not None:
        raise InvalidCredentials(reason)
    after_commit(lambda: _end_if_stale(session_id, request), router.db_for_write(LoginSession))


def _end_if_stale(session_id: UUID, request: Any) -> str | None:
    """End the session if its user's row refuses it. Return the reason."""
    runtime = current()
    sessions = LoginSession.objects.on_primary()
    with database_answers():
        session = runtime.session_rows.get(session_id, sessions.db)
    if session is None or session.user is None:
        reason: str | None = USER_DELETED
    else:
        reason = _why_refused(runtime, session)
    if reason is not None:
        own = sessions.filter(pk=session_id)
        _end(own, reason, request)
        if reason == USER_DELETED:
            with database_answers():
                # In an open transaction, the row may still point to the user.
                own.update(user=None)
                own.blank_traces()
    return reason


def _end_the_least_used(user: Any, limit: int, idle_limit: timedelta) -> None:
    """End the sessions of *user* beyond *limit*, the least recently used first.

    Every login goes by the same total order, in which its own session may come last. The
    sessions within the limit are therefore the same for all logins, so no two end each
    other. The last login to look leaves exactly *limit* sessions.
    """
    # Logged where it fails. The login is good all the same, and the next one ends them.
    with suppress(Unavailable):
        sessions = LoginSession.objects.on_primary().filter(user=user)
        with database_answers():
            live = sessions.live(current().clock(), idle_limit)
            by_use = live.order_by("-rotated_at", "-created_at", "-pk").values_list("pk", flat=True)
            beyond = list(by_use[limit : limit + BATCH])
        if beyond:
            _end(sessions.filter(pk__in=beyond), TOO_MANY)


def _end(
    sessions: LoginSessionQuerySet,
    reason: str,
    request: Any = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """End *sessions*. Return how many were live until now."""
    return _end_judged(sessions, lambda _: reason, request, progress)


def _end_judged(
    sessions: LoginSessionQuerySet,
    judge: Callable[[LoginSession], str | None],
    request: Any = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """End those of *sessions* for which *judge* returns a reason. Return how many were live."""
    candidates = sessions.filter(revoked_at__isnull=True).select_related("user").order_by("pk")
    last, count = UUID(int=0), 0
    # In batches: one user may have more sessions than a statement takes parameters.
    while True:
        found = _in_rounds(lambda: list(candidates.filter(pk__gt=last)[:BATCH]))  # noqa: B023
        by_reason: dict[str, list[LoginSession]] = {}
        for session in found:
            if (reason := judge(session)) is not None:
                by_reason.setdefault(reason, []).append(session)
        for reason, batch in by_reason.items():
            count += _end_batch(batch, reason, request)
        if progress is not None:
            progress(count)
        if len(found) < BATCH:
            return count
        last = found[-1].pk


def _end_batch(batch: Sequence[LoginSession], reason: str, request: Any) -> int:
    """End those of *batch* that nothing else has ended. Return how many were live."""
    runtime = current()
    idle_limit = runtime.settings.refresh_lifetime
    since = runtime.clock() - runtime.revocation_window
    run_out = [session for session in batch if session.ends_at(idle_limit) < since]
    live = [session for session in batch if session.ends_at(idle_limit) >= since]
    if run_out:
        # Their access tokens have expired. Dated by their last use, they do not fill the list
        # of ended sessions, and longer limits in the settings do not revive them.
        _in_rounds(lambda: _rows(run_out).end(reason, F("rotated_at")))
    if not live:
        return 0
    ended = _in_rounds(lambda: _end_live(live, reason))
    if ended:
        _settle_end(ended, request)
    return len(ended)


def _end_live(batch: Sequence[LoginSession], reason: str) -> Sequence[LoginSession]:
    """End *batch* by one statement. Return those that nothing else has ended meanwhile."""
    # The time of this batch, and of this attempt: a session that seems to have ended
    # long ago would leave the list before its access tokens expire.
    ended, ended_at = batch, _ended_at(batch, current().clock())
    rows = _rows(batch)
    if rows.end(reason, ended_at) < len(batch):
        ours = frozenset(rows.filter(revoked_at=ended_at).values_list("pk", flat=True))
        ended = [session for session in batch if session.pk in ours]
    for session in ended:
        session.revoked_at, session.revoked_reason = ended_at, reason
    return ended


def _ended_at(sessions: Sequence[LoginSession], now: datetime) -> datetime:
    """Return *now*, or when the last of *sessions* was used if that seems to lie ahead.

    The host that has issued their access tokens may have a clock that is ahead of ours. The
    list of ended sessions reaches back from this date, and has to outlast these tokens.
    """
    return max(now, *(session.rotated_at for session in sessions))


def _rows(batch: Sequence[LoginSession]) -> LoginSessionQuerySet:
    # By key alone. MySQL refuses an UPDATE whose condition is a query on the same table, as
    # that of the admin's action.
    return LoginSession.objects.on_primary().filter(pk__in=[session.pk for session in batch])


def _pair(
    runtime: Runtime,
    session: LoginSession,
    token: RefreshToken,
    idle_limit: timedelta,
    request: Any,
    now: datetime,
) -> TokenPair:
    ends_at = session.ends_at(idle_limit)
    facts = SessionFacts(session.pk, session.created_at, session.amr, ends_at)
    issued = _access_token(runtime, session.user, request, session.claims, now, session=facts)
    return TokenPair(
        access_token=issued.raw,
        expires_in=issued.expires_in,
        refresh_token=runtime.refresh_tokens.mint(token),
        refresh_expires_in=int((ends_at - now).total_seconds()),
        session_id=session.pk,
    )


def _access_token(
    runtime: Runtime,
    user: Any,
    request: Any,
    own_claims: Mapping[str, Any],
    now: datetime,
    *,
    session: SessionFacts | None,
) -> IssuedToken:
    settings = runtime.settings
    try:
        extra = dict(own_claims)
        if settings.claims is not None:
            extra |= settings.claims(user, request)
        roles = None if settings.roles is None else settings.roles(user)
        if isinstance(roles, str):
            raise TypeError("ROLES returned a string where a list of strings is expected")
        return runtime.access_tokens.issue(
            runtime.accounts.subject(user), now=now, session=session, roles=roles, extra=extra
        )
    except Exception as error:
        # The project's own callables run in here, and anything may come out of them.
        if runtime.records.allows("no access token", user.pk):
            logger.exception(
                "No access token could be made: CLAIMS, ROLES or the key failed, or the token is "
                "too long."
            )
        raise Unavailable from error


def _announce(signal: Signal, session: LoginSession, request: Any) -> None:
    """Send *signal* once the change is committed. A receiver's error is logged."""

    def send() -> None:
        signal.send_robust(sender=LoginSession, session=session, request=request)

    transaction.on_commit(send, using=router.db_for_write(LoginSession))


def _demand_autocommit() -> None:
    connection = transaction.get_connection(router.db_for_write(LoginSession))
    # The block that TestCase wraps around a test does not count: nobody commits it.
    if any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        raise RuntimeError(
            "jwt_auth.sessions.refresh() was called inside an atomic block, whose rollback "
            "would undo the end of a stolen session. Call it outside, or mark the view "
            "@transaction.non_atomic_requests."
        )


def _in_rounds(step: Callable[[], Result]) -> Result:
    """Return what *step* returns, tried again when it meets another transaction.

    Raises:
        Unavailable: the database failed, or others were faster every time.
    """
    with database_answers():
        for _ in range(ROUNDS):
            with suppress(_LostRound), _conflicts_lose_the_round():
                return step()
    logger.error("%d rounds were lost to other transactions on the same sessions.", ROUNDS)
    raise Unavailable


def _once_committed(action: Callable[[], object]) -> None:
    """Run *action* now, or after the commit if a transaction is open."""
    if _is_in_a_transaction():
        after_commit(action, router.db_for_write(LoginSession))
    else:
        action()


def _is_in_a_transaction() -> bool:
    return is_in_transaction(router.db_for_write(LoginSession))


@contextmanager
def _conflicts_lose_the_round() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        # Inside of a transaction nothing can be tried again: it is aborted as a whole.
        if _is_in_a_transaction() or not _is_conflict(error):
            raise
        raise _LostRound from error


def _is_unanswered(error: OperationalError) -> bool:
    cause = error.__cause__
    for name in ("sqlstate", "pgcode"):
        if hasattr(cause, name):
            return getattr(cause, name) in _LOST_STATES
    return bool(error.args) and error.args[0] in _LOST_NUMBERS


def _is_conflict(error: OperationalError) -> bool:
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = error.args[0] if error.args else None
    return state in _CONFLICT_STATES or number in _CONFLICT_NUMBERS or "is locked" in str(number)
