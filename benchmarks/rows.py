"""Rows by the million, as logins, refreshes and logouts of three months would leave them.

They are made one by one here and go into the database as a stream: by COPY on PostgreSQL.
Their indexes are there again only when all rows are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import batched
from typing import Any
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Max
from django.utils import timezone

from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.tokens.refresh import RefreshToken

SESSIONS_PER_USER = 5
# Each of them lives: younger than SESSION_LIFETIME, and used within REFRESH_TOKEN_LIFETIME.
OLDEST, YOUNGEST = 88 * 86400, 3 * 86400
LONGEST_UNUSED, SHORTEST_UNUSED = 13 * 86400, 3600
# Whoever was signed out has been so for this long.
SIGNED_OUT = 2 * 86400
# How many rows are handed to the database at once.
CHUNK = 1000

AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/139.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Example/4.2 (Android 16)",
]
DEVICES = ["", "", "telephone", "work laptop", "the tablet in the kitchen"]

Row = tuple[str | None, ...]

# The same rows each time, but for their keys.
draw = random.Random(9)  # noqa: S311


def fill(size: int, *, known: int = 0, signed_out: float = 0.2) -> list[str]:
    """Fill the table of sessions with *size* rows, and that of users with what they need.

    *signed_out* is the share of those that were ended, days ago. Return refresh tokens of
    *known* sessions that live, from all over the table, in random order.
    """
    first = get_user_model().objects.aggregate(Max("pk"))["pk__max"] + 1
    marks = _add_users(first, max(1, size // SESSIONS_PER_USER))
    tokens: list[str] = []
    load(LoginSession, _sessions(size, first, marks, known, signed_out, tokens.append))
    draw.shuffle(tokens)
    return tokens


def load(model: type[Any], rows: Iterable[Row]) -> None:
    """Insert *rows*, whose members are the columns of *model* in order, as text."""
    table = connection.ops.quote_name(model._meta.db_table)
    names = [field.column for field in model._meta.concrete_fields]
    columns = ", ".join(connection.ops.quote_name(name) for name in names)
    with _without_indexes(model._meta.db_table), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for chunk in batched(rows, CHUNK):
                    copy.write("".join(map(_line, chunk)))
            return
        places = ", ".join(["%s"] * len(names))
        for chunk in batched(rows, CHUNK):
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", chunk)


def settle() -> None:
    """Have the database take stock of the rows, as it does by itself after a while."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def times() -> Callable[[float], str]:
    """Return what writes the time that lies so many seconds back from now on."""
    now = timezone.now().replace(tzinfo=None)
    return lambda ago: str(now - timedelta(seconds=ago))


def _add_users(first: int, number: int) -> list[str]:
    """Add so many users with keys from *first* on. Return the marks of their passwords."""
    model = get_user_model()
    user, marks = model(), []
    joined, mark = times()(OLDEST), current().password_marks.current
    columns = [field.column for field in model._meta.concrete_fields]

    def rows() -> Iterator[Row]:
        for key in range(first, first + number):
            secret = os.urandom(33).hex()
            user.password = f"pbkdf2_sha256$1200000${secret[:22]}${secret[22:]}"
            marks.append(mark(user))
            values = {
                "id": str(key),
                "password": user.password,
                "last_login": joined,
                "username": f"user-{key}",
                "email": f"user-{key}@example.com",
                "date_joined": joined,
                "is_active": "1",
                "is_staff": "0",
                "is_superuser": "0",
            }
            yield tuple(values.get(column, "") for column in columns)

    load(model, rows())
    return marks


def _sessions(
    size: int,
    first: int,
    marks: list[str],
    known: int,
    signed_out: float,
    tell: Callable[[str], object],
) -> Iterator[Row]:
    """Make the rows, the oldest login first, and *tell* the tokens of the known ones."""
    at, uniform, choice = times(), draw.uniform, draw.choice
    mint = current().refresh_tokens.mint
    places = set(draw.sample(range(size), known))
    for place in range(size):
        created = OLDEST - (OLDEST - YOUNGEST) * place / size
        generation = draw.randrange(1, 2000)
        key, revoked, reason = "", None, ""
        used = uniform(SHORTEST_UNUSED, min(created, LONGEST_UNUSED))
        if place in places:
            token = RefreshToken.first().of_generation(generation)
            key = token.session_id.hex
            tell(mint(token))
        else:
            key = uuid4().hex
            if draw.random() < signed_out:
                used = uniform(SIGNED_OUT, created)
                revoked, reason = at(used), "logout"
        user = draw.randrange(len(marks))
        yield (
            key,
            str(first + user),
            str(generation),
            at(used),
            marks[user],
            '["pwd"]',
            "{}",
            choice(DEVICES),
            f"198.51.{user % 256}.{place % 256}",
            choice(AGENTS),
            at(created),
            at(created - 90 * 86400),
            revoked,
            reason,
        )


def _line(row: Row) -> str:
    # Nothing in here has a tab, a newline or a backslash.
    return "\t".join(["\\N" if value is None else value for value in row]) + "\n"


@contextmanager
def _without_indexes(table: str) -> Iterator[None]:
    """Have the indexes of *table* made when all rows are there, and no row looked up for a key.

    That of the primary key stays, and gets the shape that random ids give it.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = %s::regclass AND NOT indisunique",
            [table],
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        # Foreign keys are triggers, too.
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for _, definition in indexes:
            cursor.execute(definition)
        cursor.execute("RESET maintenance_work_mem")
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
