"""The one desk: sessions are started, refreshed and ended here, and nowhere else.

How a refresh works is told in ``docs/explanation/``; the rule behind the order of its
steps: spend last, and punish only by an UPDATE that repeats the finding.
"""

from __future__ import annotations

import copy
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
    database_answers,
    in_test_case,
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
        InvalidCredentials: the user is inactive, anonymous, unsaved or gone.
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
    with database_answers():
        try:
            _insert(runtime, session)
        except IntegrityError:
            raise InvalidCredentials("the user is gone") from None
    _announce(signals.session_started, session, request)
    if runtime.settings.max_sessions is not None:
        _end_the_least_used(session, runtime.settings.max_sessions, idle_limit, now)
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
    runtime = current()
    idle_limit = runtime.settings.refresh_lifetime
    if idle_limit is None:
        raise RefreshNotValid("there are no sessions")
    token = runtime.refresh_tokens.read(raw)
    _demand_autocommit()
    return _in_rounds(lambda: _refresh_once(runtime, token, idle_limit, request))


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


def end_with_another_password(user: Any) -> int:
    """End the sessions of *user* that were opened under another password.

    Raises:
        Unavailable: the database failed.
    """
    sessions = LoginSession.objects.on_primary().filter(user=user)
    same_password = current().password_marks.condition(getattr(user, "password", None))
    return _end(sessions.exclude(same_password), PASSWORD_CHANGED)


def note_rehash(user: Any, old_hash: str) -> None:
    """Note that the password of *user*, stored as *old_hash*, is getting a new hash.

    Raises:
        Unavailable: the database failed.
    """
    marks = current().password_marks
    sessions = LoginSession.objects.on_primary().filter(user=user)
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
    with database_answers():
        if not sessions.exists():
            return
    end_all(user, reason=USER_DELETED)
    with database_answers():
        sessions.update(device="", ip=None, user_agent="")


def end_of_nobody() -> int:
    """End the sessions whose user is gone. Return how many ended.

    A login that meets the deletion of its user may leave one.

    Raises:
        Unavailable: the database failed.
    """
    return _end(LoginSession.objects.on_primary().filter(user__isnull=True), USER_DELETED)


# A thread each: the ORM and the project's CLAIMS and ROLES are synchronous.
astart = sync_to_async(start)
arefresh = sync_to_async(refresh)
aend = sync_to_async(end)
aend_all = sync_to_async(end_all)


def _insert(runtime: Runtime, session: LoginSession) -> None:
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
    runtime: Runtime, token: RefreshToken, idle_limit: timedelta, request: Any
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
    _note_ended([session])
    _announce(signals.session_ended, session, request)


def _note_ended(sessions: Collection[LoginSession]) -> None:
    revocations = current().authenticator.revocations
    if revocations is not None and sessions:
        revocations.note([session.pk for session in sessions])


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


def _end_the_least_used(
    newest: LoginSession, limit: int, idle_limit: timedelta, now: datetime
) -> None:
    """End the sessions of the user of *newest* beyond *limit*, the least used first."""
    # Logged where it fails. The login is good all the same, and the next one ends them.
    # In a savepoint: an error would otherwise undo the login that is around it.
    with suppress(Unavailable), _savepoint():
        sessions = LoginSession.objects.on_primary().filter(user=newest.user)
        with database_answers():
            live = sessions.live(now, idle_limit).exclude(pk=newest.pk)
            by_use = live.order_by("-rotated_at", "-created_at", "pk")
            others = list(by_use.values_list("pk", "created_at")[: limit + BATCH])
        # Of two logins at once the earlier one is ended, by the later one alone.
        newer = sum(created_at > newest.created_at for _, created_at in others)
        too_many = [pk for pk, _ in others[max(limit - 1, newer) :]]
        if too_many:
            _end(sessions.filter(pk__in=too_many), TOO_MANY)


def _end(
    sessions: LoginSessionQuerySet,
    reason: str,
    request: Any = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    runtime = current()
    # Who ran out long ago has no token left that lives, and would only fill the list.
    live = sessions.filter(revoked_at__isnull=True).lasting(
        runtime.clock() - runtime.revocation_window, runtime.settings.refresh_lifetime
    )
    live = live.select_related("user").order_by("pk")
    last, count = UUID(int=0), 0
    # In batches: one user may have more sessions than a statement takes parameters.
    while True:
        # The time of this batch: a session that is said to have ended long ago, when
        # the run began, would fall out of the list before its access tokens expire.
        now = runtime.clock()
        found, ended = _in_rounds(lambda: _end_batch(sessions, live, last, reason, now))  # noqa: B023
        _note_ended(ended)
        for session in ended:
            _announce(signals.session_ended, session, request)
        count += len(ended)
        if progress is not None:
            progress(count)
        if len(found) < BATCH:
            return count
        last = found[-1].pk


def _end_batch(
    sessions: LoginSessionQuerySet,
    live: LoginSessionQuerySet,
    last: UUID,
    reason: str,
    now: datetime,
) -> tuple[list[LoginSession], list[LoginSession]]:
    """End the next of the *live* ones of *sessions* behind *last*.

    Return those that were found, and those that nobody else has ended meanwhile.
    """
    found = list(live.filter(pk__gt=last)[:BATCH])
    if not found:
        return [], []
    batch = sessions.filter(pk__in=[session.pk for session in found])
    ended, ended_at = found, _ended_at(found, now)
    if batch.end(reason, ended_at) < len(found):
        ours = frozenset(batch.filter(revoked_at=ended_at).values_list("pk", flat=True))
        ended = [session for session in found if session.pk in ours]
    for session in ended:
        session.revoked_at, session.revoked_reason = ended_at, reason
    return found, ended


def _ended_at(sessions: Sequence[LoginSession], now: datetime) -> datetime:
    """Return *now*, or when the last of *sessions* was used if that seems to lie ahead.

    The host that has issued their access tokens may have a clock that is ahead of ours. The
    list of ended sessions reaches back from this date, and has to outlast these tokens.
    """
    return max(now, *(session.rotated_at for session in sessions))


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


@contextmanager
def _savepoint() -> Iterator[None]:
    if _is_in_a_transaction():
        with transaction.atomic(using=router.db_for_write(LoginSession)):
            yield
    else:
        yield


def _is_in_a_transaction() -> bool:
    """Tell whether a transaction is open, the one of a `TestCase` apart."""
    alias = router.db_for_write(LoginSession)
    return transaction.get_connection(alias).in_atomic_block and not in_test_case(alias)


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
