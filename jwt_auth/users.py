"""Who a token speaks of: loaded when touched, loaded at once, or from claims alone."""

from __future__ import annotations

import functools
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, Protocol

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, DataError, InterfaceError, connections, router
from django.db.models import Q
from django.utils.functional import SimpleLazyObject, empty

from jwt_auth.errors import Rejected, SessionEnded, TokenNotValid, Unavailable
from jwt_auth.logs import RecordLimit
from jwt_auth.models import MARK_LENGTH, LoginSession, database_answers
from jwt_auth.tokens.claims import VerifiedClaims

logger = logging.getLogger("jwt_auth")

# What a database driver or a model field says of a value that no row can have.
_IMPOSSIBLE = (ValueError, TypeError, OverflowError, ValidationError, DataError)

# The ORM asks every value of a filter whether it is an expression. A user is none, and
# `filter(owner=request.user)` then needs no row.
_NOT_AN_EXPRESSION = frozenset({"resolve_expression", "get_source_expressions", "as_sql"})


def group_names(user: Any) -> list[str]:
    """Return the names of the groups of *user*: the default for the claim ``roles``."""
    groups = getattr(user, "groups", None)
    return [] if groups is None else list(groups.order_by("name").values_list("name", flat=True))


def is_active(user: Any) -> bool:
    """Tell whether *user* may sign in; a model without the field has no other users."""
    return bool(getattr(user, "is_active", True))


def is_about_impossible_name(error: Exception, name: str) -> bool:
    """Tell whether *error* was raised because no user row can hold the user name *name*.

    Fields and drivers raise all kinds of errors for a name that the field or the encoding of
    the database lacks. So this asks whether the table answers, and whether it does for *name*.
    """
    model = get_user_model()
    users = model._base_manager.using(router.db_for_read(model))
    if isinstance(error, DataError):
        # PostgreSQL has aborted the transaction, if there is one, and answers no further question.
        return True
    if isinstance(error, DatabaseError | InterfaceError) and not _is_connected(users.db):
        # The next attempt to connect would take as long.
        return False
    return _answers(users) and not _answers(users, **{model.USERNAME_FIELD: name})


def _is_connected(alias: str) -> bool:
    return connections[alias].connection is not None


def _answers(users: Any, **lookup: str) -> bool:
    try:
        users.filter(**lookup).exists()
    except Exception:  # noqa: BLE001
        return False
    return True


class PasswordMarks:
    """Digests of password hashes, to see that a password is still the same.

    Keyed, so that a copy of the session table says nothing of a password. The first
    key makes marks; all keys recognise them. What a session stores is one mark, or
    two in a row after a re-hash: of the hash before and of the hash after. Both are
    taken, since a request may still see the user as before.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def current(self, user: Any) -> str:
        """Return the mark to store for *user*."""
        return self._mark(_password(user), self._keys[0])

    def after_rehash(self, old_hash: str, user: Any) -> str:
        """Return the two marks to store when the password of *user* gets a new hash."""
        return self._mark(old_hash, self._keys[0]) + self.current(user)

    def renewal(self, stored: str, user: Any) -> str | None:
        """Return what to store for *user* instead of *stored*, which matches.

        `None` unless it was made under a key that is about to be forgotten.
        """
        current = self.current(user)
        return None if current in _split(stored) else current

    def match(self, stored: str, user: Any) -> bool:
        """Tell whether *stored* stands for the present password of *user*."""
        known = [self._mark(_password(user), key) for key in self._keys]
        return any(hmac.compare_digest(one, other) for one in _split(stored) for other in known)

    def condition(self, password: str | None) -> Q:
        """Return the condition for sessions whose mark stands for the hash *password*."""
        condition = Q()
        for key in self._keys:
            mark = self._mark(password, key)
            condition |= Q(password_mark__startswith=mark) | Q(password_mark__endswith=mark)
        return condition

    def _mark(self, password: str | None, key: bytes) -> str:
        # Every unusable password is spelled differently and means the same: none.
        text = password if is_password_usable(password) and password else "unusable"
        return hmac.digest(key, text.encode(), "sha256")[: MARK_LENGTH // 2].hex()


def _password(user: Any) -> str | None:
    return getattr(user, "password", None)


def _split(stored: str) -> list[str]:
    return [stored[at : at + MARK_LENGTH] for at in range(0, len(stored), MARK_LENGTH)]


class TokenUser:
    """A user made of verified claims alone, for services without a user table.

    It answers what DRF's permissions and throttles ask. It is never staff and has
    no permissions: claims grant nothing by themselves.
    """

    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False
    is_superuser = False

    def __init__(self, claims: VerifiedClaims, *, among_others: bool = False) -> None:
        self.claims = claims
        self._among_others = among_others

    @property
    def pk(self) -> str:
        """The claim ``sub``.

        Of another issuer's user in a project with users of its own, *among_others*, ``iss|sub``:
        no query and no throttle takes one for the other.
        """
        if self._among_others:
            return f"{self.claims.issuer}|{self.claims.subject}"
        return self.claims.subject

    id = pk

    def get_username(self) -> str:
        """Return `pk`."""
        return self.pk

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_perms(self, perm_list: Sequence[str], obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_module_perms(self, app_label: str) -> bool:
        """Return False."""
        return False

    async def ahas_perm(self, perm: str, obj: Any = None) -> bool:
        """Return False."""
        return False

    async def ahas_perms(self, perm_list: Sequence[str], obj: Any = None) -> bool:
        """Return False."""
        return False

    async def ahas_module_perms(self, app_label: str) -> bool:
        """Return False."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenUser) and (self.claims.issuer, self.pk) == (
            other.claims.issuer,
            other.pk,
        )

    def __hash__(self) -> int:
        return hash((self.claims.issuer, self.pk))

    def __str__(self) -> str:
        return self.pk


class Strangers:
    """Makes users of another issuer's verified claims.

    *make* is the ``USER`` of ``TRUSTED_ISSUERS``: it is called with the claims, in each request,
    and answers a user, or a user and what the token is granted here (``roles``, ``scope``), or
    `None` or False for nobody. Without it, a `TokenUser` is made.
    """

    def __init__(
        self,
        make: Callable[[VerifiedClaims], Any] | None,
        *,
        among_others: bool,
        records: RecordLimit,
    ) -> None:
        self._make = make
        self._among_others = among_others
        self._records = records

    def find(self, claims: VerifiedClaims) -> tuple[Any, VerifiedClaims]:
        """Return the user and the claims that count here.

        Raises:
            SessionEnded: there is no such user, or an inactive one.
            Unavailable: the function failed.
        """
        if self._make is None:
            return self._admitted(claims, None)
        with self._projects_own(claims):
            made = self._make(claims)
            if isawaitable(made):
                made = async_to_sync(_awaited)(made)
            return self._admitted(claims, made)

    async def afind(self, claims: VerifiedClaims) -> tuple[Any, VerifiedClaims]:
        """See find(). A function that is no coroutine runs in a thread."""
        if self._make is None:
            return self._admitted(claims, None)
        make: Any = self._make if iscoroutinefunction(self._make) else sync_to_async(self._make)
        with self._projects_own(claims):
            made = await make(claims)
            if isawaitable(made):
                # Of a coroutine function that something was wrapped around.
                made = await made
            return self._admitted(claims, made)

    def _admitted(self, claims: VerifiedClaims, made: Any) -> tuple[Any, VerifiedClaims]:
        user, granted = made if isinstance(made, tuple) else (made, {})
        known = VerifiedClaims(claims.of_a_stranger(granted))
        if self._make is None:
            return TokenUser(known, among_others=self._among_others), known
        # `found and found.is_active and found` is False for the inactive.
        if user is None or user is False:
            raise SessionEnded("no such user here")
        is_authenticated = user.is_authenticated
        if is_authenticated is not True and is_authenticated is not False:
            raise TypeError("what USER returned is no user")
        if not is_authenticated or not is_active(user):
            raise SessionEnded("nobody, or an inactive user")
        return user, known

    @contextmanager
    def _projects_own(self, claims: VerifiedClaims) -> Iterator[None]:
        """Have what a function of the project raises answered 503, and logged."""
        try:
            yield
        except (Rejected, Unavailable):
            raise
        except Exception:
            if self._records.allows("USER failed", (claims.issuer, claims.subject)):
                logger.exception("USER of TRUSTED_ISSUERS failed.")
            raise Unavailable from None


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made


class Accounts:
    """Finds the user that claims speak of, through the row of their session."""

    def __init__(self, *, user_id_field: str, sessions_on: bool, cache_size: int) -> None:
        self._user_id_field = user_id_field
        self._sessions_on = sessions_on
        # What is known of a user without its row follows from ``sub`` alone.
        self._known = functools.lru_cache(cache_size)(self._read_subject)

    def subject(self, user: Any) -> str:
        """Return the value of ``sub`` for *user*.

        Raises:
            ValueError: the field is empty or has a NUL, and no claim may be either.
        """
        value = getattr(user, self._user_id_field)
        subject = "" if value is None else str(value)
        if not subject or "\x00" in subject:
            raise ValueError("USER_ID_FIELD is empty for this user, or has a NUL")
        return subject

    def load(self, claims: VerifiedClaims) -> Any:
        """Return the user from the primary database: one query.

        Raises:
            SessionEnded: the user is gone or inactive, or the session was ended.
            TokenNotValid: ``sub`` names no user, or not this session's.
            Unavailable: the database failed.
        """
        with database_answers():
            try:
                return self._judge(claims, self._query(claims).get())
            except (ObjectDoesNotExist, *_IMPOSSIBLE):
                raise SessionEnded("no such user or session") from None

    async def aload(self, claims: VerifiedClaims) -> Any:
        """See load()."""
        with database_answers():
            try:
                return self._judge(claims, await self._query(claims).aget())
            except (ObjectDoesNotExist, *_IMPOSSIBLE):
                raise SessionEnded("no such user or session") from None

    def lazy(self, claims: VerifiedClaims, rows: Rows) -> LazyUser:
        """Return a user whose row comes from *rows* at the first touch that needs it.

        Raises:
            TokenNotValid: ``sub`` is nothing that the field can hold.
        """
        rows.known_of_user = self._known(claims.subject)
        # Step by step: this is done in every request, and LazyObject has an opinion on each
        # attribute that is set by name.
        user = _new(LazyUser)
        _set_rows(user, rows)
        return user

    def _read_subject(self, subject: str) -> Mapping[str, Any]:
        model = get_user_model()
        name = self._user_id_field
        field: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
        value = self._key(field, subject)
        known = {field.attname: value, "_meta": model._meta, "is_anonymous": False}
        if field.primary_key:
            # Django's own question before it takes `pk` for a filter.
            known |= {"pk": value, "_is_pk_set": lambda: True}
        return known

    def _query(self, claims: VerifiedClaims) -> Any:
        if self._sessions_on:
            sessions = LoginSession.objects.on_primary().select_related("user")
            return sessions.named(claims.session_id)
        # The base manager: a default manager may hide rows.
        model = get_user_model()
        users = model._base_manager.using(router.db_for_write(model))
        return users.filter(**{self._user_id_field: claims.subject})

    def _judge(self, claims: VerifiedClaims, found: Any) -> Any:
        user = found
        if self._sessions_on:
            user = found.user
            if user is None or found.revoked_at is not None:
                raise SessionEnded("the user is gone, or the session was ended")
        if not is_active(user):
            raise SessionEnded("the user is inactive")
        # int(" 1 "), int("٣") and UUID("{…}") find a row as well; one user has one
        # spelling.
        if str(getattr(user, self._user_id_field)) != claims.subject:
            raise TokenNotValid("sub is not this user")
        return user

    def _key(self, field: Any, subject: str) -> Any:
        while field.remote_field is not None:
            # The primary key of a child model is a link to its parent's.
            field = field.target_field
        try:
            value = field.to_python(subject)
        except _IMPOSSIBLE:
            raise TokenNotValid("sub is no key of a user") from None
        if str(value) != subject:
            raise TokenNotValid("sub is not in its canonical spelling")
        return value


class Rows(Protocol):
    """Brings the row of a lazy user, and keeps what is known without it."""

    known_of_user: Mapping[str, Any]

    def load_late(self) -> Any:
        """Return the row, or who stands in for it."""


class LazyUser(SimpleLazyObject):  # type: ignore[type-arg]
    """The user of a verified token, not loaded before the row is needed.

    Truth value, class, ``pk``, the key's own name, `is_authenticated` and
    `is_anonymous` are known from the token and cost no query.
    """

    # There is one in every request: as little as possible is set when it is made. The name is
    # one that no model has a field of.
    __slots__ = ("_jwt_auth_rows",)
    _wrapped: Any = empty

    def _setup(self) -> None:
        fill(self, self._jwt_auth_rows.load_late())

    def __getattribute__(self, name: str) -> Any:
        # Before LazyObject looks, who takes ten times as long: this is asked in every request.
        if name == "is_authenticated":
            return True
        known = _get(self, "_jwt_auth_rows").known_of_user
        if name in known:
            return known[name]
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_AN_EXPRESSION and self._wrapped is empty:
            raise AttributeError(name)
        return super().__getattr__(name)

    # Of C, where a method would be called in every request.
    __bool__ = True.__bool__

    def __repr__(self) -> str:
        wrapped = self._wrapped
        return f"<LazyUser: {'not loaded' if wrapped is empty else repr(wrapped)}>"

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        wrapped = self._wrapped
        if wrapped is empty:
            return self._jwt_auth_rows.known_of_user["_meta"].model
        return wrapped.__class__

    # A copy loads the row at once. One that loads it later, as Django's does, would show what
    # has been saved meanwhile, and a comparison of before and after would see no difference.
    def __copy__(self) -> Any:
        if self._wrapped is empty:
            self._setup()
        return super().__copy__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._wrapped is empty:
            self._setup()
        return super().__deepcopy__(memo)


class LoadedUser(LazyUser):
    """What a `LazyUser` becomes when it is loaded: all that is asked of it, its row answers.

    Another class, so that nobody has to ask in each request which of the two it is.
    """

    __slots__ = ()
    __getattribute__ = SimpleLazyObject.__getattribute__


_new, _get = object.__new__, object.__getattribute__
_set_rows = LazyUser._jwt_auth_rows.__set__  # type: ignore[attr-defined]
# By the name `__class__`, a lazy user tells the class of its row.
_set_type = object.__dict__["__class__"].__set__


# Functions, because a method would hide a field of that name from whoever asks the user.
def is_loaded(user: LazyUser) -> bool:
    """Tell whether the row of *user* has been read."""
    return user._wrapped is not empty


def fill(user: LazyUser, row: Any) -> None:
    """Give *user* the *row* that was read elsewhere."""
    # In this order: a loaded user without a row would have it read once more.
    user._wrapped = row
    _set_type(user, LoadedUser)
