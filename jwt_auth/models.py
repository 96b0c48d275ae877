"""The row behind one login on one device, and the only ways it changes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from traceback import extract_tb
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import (
    DatabaseError,
    InterfaceError,
    connections,
    models,
    router,
    transaction,
)
from django.db.models.sql import InsertQuery
from django.utils.translation import gettext_lazy as _

from jwt_auth.errors import Unavailable

logger = logging.getLogger("jwt_auth")

DEVICE_LENGTH = 100
USER_AGENT_LENGTH = 255
REASON_LENGTH = 32
# One mark of a password; a session stores up to two, see users.PasswordMarks.
MARK_LENGTH = 32

# What a server says of a table or column that is not there: PostgreSQL by SQLSTATE, MariaDB and
# MySQL by number, SQLite by text alone.
_MISSING_STATES = frozenset({"42P01", "42703"})
_MISSING_NUMBERS = frozenset({1054, 1146})
_MISSING_TEXTS = ("no such table", "no such column", "has no column named")


class LoginSessionQuerySet(models.QuerySet["LoginSession"]):
    """The state changes of sessions: conditional UPDATEs whose row count answers."""

    def on_primary(self) -> LoginSessionQuerySet:
        """Read where writes go: a replica may not know of a rotation yet."""
        return self.using(router.db_for_write(self.model))

    def named(self, session_id: UUID | None) -> LoginSessionQuerySet:
        """The session of this id; no session for the id of none."""
        return self.none() if session_id is None else self.filter(pk=session_id)

    def live(self, now: datetime, idle_limit: timedelta) -> LoginSessionQuerySet:
        """Sessions that a refresh would still take at *now*."""
        return self.filter(
            user__isnull=False,
            revoked_at__isnull=True,
            expires_at__gt=now,
            rotated_at__gt=now - idle_limit,
        )

    def over(self, before: datetime, idle_limit: timedelta | None) -> LoginSessionQuerySet:
        """Sessions that had ended, in whatever way, *before* then."""
        over = models.Q(revoked_at__lt=before) | models.Q(expires_at__lt=before)
        if idle_limit is not None:
            over |= models.Q(rotated_at__lt=before - idle_limit)
        return self.filter(over)

    def rotate(self, session: LoginSession, **values: Any) -> bool:
        """Write *values* if the row is as *session* was read. Tell whether it was."""
        as_read = {"expires_at__gt": values["rotated_at"]}
        if "password_mark" in values:
            # A re-hash may have renewed it meanwhile, and is not to be undone.
            as_read["password_mark"] = session.password_mark
        return self._as_read(session, **as_read).update(**values) == 1

    def revoke(self, session: LoginSession, reason: str, now: datetime) -> bool:
        """End the session if the row is as *session* was read. Tell whether it was.

        The condition repeats the finding: a stale read ends nothing.
        """
        return self._as_read(session, password_mark=session.password_mark).end(reason, now) == 1

    def end(self, reason: str, now: datetime | models.F) -> int:
        """End these sessions if they have not ended yet. Return how many had not."""
        return self.filter(revoked_at__isnull=True).update(
            revoked_at=now, revoked_reason=reason[:REASON_LENGTH]
        )

    def blank_traces(self) -> int:
        """Blank device, address and agent. Return how many sessions there are."""
        return self.update(device="", ip=None, user_agent="")

    def _as_read(self, session: LoginSession, **more: Any) -> LoginSessionQuerySet:
        return self.filter(
            **more,
            pk=session.pk,
            generation=session.generation,
            rotated_at=session.rotated_at,
            revoked_at__isnull=True,
        )


class LoginSession(models.Model):
    """One login on one device, for as long as it lasts.

    The row holds no token and nothing a token could be made of. It outlives its
    user, so that the list of revoked sessions can still name it.
    """

    # Derived one-way from the refresh token's handle; the claim `sid`.
    id = models.UUIDField(primary_key=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    # No index on these two: the UPDATE of a rotation then touches no index and
    # stays heap-only on PostgreSQL.
    generation = models.PositiveIntegerField(_("generation"), default=0)
    rotated_at = models.DateTimeField(_("last used"))
    # Keyed digests of the password hash; see users.PasswordMarks.
    password_mark = models.CharField(max_length=2 * MARK_LENGTH, editable=False)
    # Authentication methods, RFC 8176.
    amr = models.JSONField(_("methods"), default=list)
    # What sessions.start(claims=…) asked to repeat in each access token.
    claims = models.JSONField(_("claims"), default=dict)
    device = models.CharField(_("device"), max_length=DEVICE_LENGTH, blank=True)
    ip = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=USER_AGENT_LENGTH, blank=True)
    created_at = models.DateTimeField(_("signed in"))
    # The absolute end. The idle limit moves with rotated_at and is not stored.
    expires_at = models.DateTimeField(_("expires"), db_index=True)
    revoked_at = models.DateTimeField(_("ended"), null=True, blank=True, db_index=True)
    revoked_reason = models.CharField(_("reason"), max_length=REASON_LENGTH, blank=True)

    objects = LoginSessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("login session")
        verbose_name_plural = _("login sessions")

    def __str__(self) -> str:
        return str(self.pk)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the row, as fixtures and tests do. A login does it by `SessionRows`.

        Afterwards only conditional UPDATEs change it.

        Raises:
            TypeError: the row exists. Saving it could undo a logout that another
                process has just committed.
        """
        if not self._state.adding:
            raise TypeError("A login session changes through jwt_auth.sessions, not by save().")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: an access token of a deleted session could not be revoked any more.

        Raises:
            TypeError: always. End the session with jwt_auth.sessions.end().
        """
        raise TypeError("A login session is ended with jwt_auth.sessions.end(), not deleted.")

    def ends_at(self, idle_limit: timedelta | None) -> datetime:
        """Return when the session is over: the nearer of its limits."""
        if idle_limit is None:
            return self.expires_at
        return min(self.expires_at, self.rotated_at + idle_limit)


class SessionRows:
    """Inserts one session, and reads one with its user, of *user_model*: a statement each.

    What ``save()`` and ``select_related("user")`` would do, whole rows and instances as ever.
    But the ORM writes each statement once: to write it each time takes it longer, the second
    ten times as long, than the database takes to answer.
    """

    def __init__(self, user_model: type[models.Model]) -> None:
        users_fields: Any = user_model._meta.concrete_fields
        self._user_model = user_model
        self._fields: Any = LoginSession._meta.concrete_fields
        self._names = [field.attname for field in self._fields]
        self._users_names = [field.attname for field in users_fields]
        # By which a row of the user shows that it is there. The ORM takes its key from the
        # session, where it stands for as long as the database does not mind.
        pk: Any = user_model._meta.pk
        proof = next((one for one in users_fields if not (one.null or one.primary_key)), pk)
        self._never_null = self._users_names.index(proof.attname)
        self._inserts: dict[str, str] = {}
        self._selects: dict[str, tuple[str, list[Any], Any]] = {}

    def insert(self, session: LoginSession, alias: str) -> None:
        """Insert *session*, which is new, into the database *alias*.

        Django's signals of a ``save()`` are not sent: there is `signals.session_started`.
        """
        connection = connections[alias]
        with transaction.mark_for_rollback_on_error(alias), connection.cursor() as cursor:
            sql = self._inserts.get(alias) or self._written_insert(session, alias)
            values = [
                field.get_db_prep_save(getattr(session, field.attname), connection)
                for field in self._fields
            ]
            cursor.execute(sql, values)
        session._state.adding, session._state.db = False, alias

    def get(self, session_id: UUID, alias: str) -> LoginSession | None:
        """Return the session from the database *alias*; its `user` is `None` if it has none."""
        connection = connections[alias]
        sql, fixed, converters = self._selects.get(alias) or self._written_select(alias)
        pk: Any = LoginSession._meta.pk
        with connection.cursor() as cursor:
            cursor.execute(sql, [*fixed, pk.get_db_prep_value(session_id, connection)])
            row = cursor.fetchone()
        if row is None:
            return None
        values = list(row)
        for place, functions, expression in converters:
            for convert in functions:
                values[place] = convert(values[place], expression, connection)
        own, users = values[: len(self._names)], values[len(self._names) :]
        session = LoginSession.from_db(alias, self._names, own)
        user: Any = None
        if row[len(self._names) + self._never_null] is not None:
            user = self._user_model.from_db(alias, self._users_names, users)
        session.user = user
        return session

    def _written_insert(self, session: LoginSession, alias: str) -> str:
        """Have the ORM write the statement that inserts *session*, and any other."""
        query = InsertQuery(LoginSession)
        query.insert_values(self._fields, [session])
        [(sql, _)] = query.get_compiler(alias).as_sql()
        written: str = sql
        self._inserts[alias] = written
        return written

    def _written_select(self, alias: str) -> tuple[str, list[Any], Any]:
        """Have the ORM write the statement, and say how the database's values become Python's."""
        columns = [*self._names, *(f"user__{name}" for name in self._users_names)]
        sessions = LoginSession.objects.using(alias).values_list(*columns)
        compiler = sessions.filter(pk=UUID(int=0)).query.get_compiler(alias)
        sql, parameters = compiler.as_sql()
        # Fields may have some of their own; the last one is the session.
        fixed = list(parameters[:-1])
        converters = compiler.get_converters([expression for expression, *_ in compiler.select])
        written = sql, fixed, [(place, *one) for place, one in converters.items()]
        self._selects[alias] = written
        return written


def has_database() -> bool:
    """Tell whether login sessions have a database.

    Django sets a dummy for ``DATABASES = {}``, which a service that only verifies has.
    """
    return connections[router.db_for_write(LoginSession)].vendor != "unknown"


def in_test_case(alias: str) -> bool:
    """Tell whether a transaction is open that `TestCase` wraps around a test.

    Nobody commits it, and no other connection ever sees what it has written.
    """
    blocks = transaction.get_connection(alias).atomic_blocks
    return any(getattr(block, "_from_testcase", False) for block in blocks)


def is_in_transaction(alias: str) -> bool:
    """Tell whether a transaction is open that will be committed: not that of a `TestCase`."""
    return connections[alias].in_atomic_block and not in_test_case(alias)


def after_commit(action: Callable[[], object], *aliases: str) -> None:
    """Run *action* after the commit of each transaction that is open on *aliases*.

    Until the commit, other connections see the rows as before, and act on what they see.
    """
    for alias in set(aliases):
        if is_in_transaction(alias):
            transaction.on_commit(action, using=alias, robust=True)


def is_missing_row(error: DatabaseError, model: Any) -> bool:
    """Tell whether *error* says that a save of *model* found no row to update.

    Since Django 6.0 this is an exception of the model. Before, it is a bare `DatabaseError`.
    """
    return type(error) is DatabaseError or isinstance(error, getattr(model, "NotUpdated", ()))


@contextmanager
def database_answers() -> Iterator[None]:
    """Turn a failing database into `Unavailable`, and say so in the log.

    Raises:
        Unavailable: the block raised an error of the database.
    """
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        # An unapplied migration is an outage as well: without its row a session could not be
        # revoked.
        if _is_about_missing_table(error):
            # The first entry is this function's, the second one that of the block.
            block = extract_tb(error.__traceback__, limit=2)[-1]
            _log_missing_table(f"{block.filename}:{block.lineno}")
        else:
            logger.exception("The database failed.")
        raise Unavailable from error


def _is_about_missing_table(error: DatabaseError | InterfaceError) -> bool:
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = error.args[0] if error.args else None
    text = str(number)
    return (
        state in _MISSING_STATES
        or number in _MISSING_NUMBERS
        or any(one in text for one in _MISSING_TEXTS)
    )


@functools.cache
def _log_missing_table(place: str) -> None:
    """Log the error that is being handled, once for each *place*: every request meets it."""
    alias = router.db_for_write(LoginSession)
    logger.exception(
        "A table or a column is missing in the database %r. Run `manage.py migrate --database %s`; "
        "`manage.py check --database %s` shows what else can be the cause.",
        alias,
        alias,
        alias,
    )
