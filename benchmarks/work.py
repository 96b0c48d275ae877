"""What is measured on a table of sessions, once Django is set up."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from rest_framework.request import Request

from benchmarks.figures import timed
from benchmarks.requests import environ
from benchmarks.rows import AGENTS
from jwt_auth import sessions
from jwt_auth.authentication import JWTAuthentication
from jwt_auth.models import LoginSession
from jwt_auth.revocation import ended_sessions
from jwt_auth.runtime import current

TABLE = LoginSession._meta.db_table


class Work:
    """Calls of the app, each so often, on whatever sessions *tokens* are of.

    A refresh token is used once: within ``REFRESH_GRACE``, a second use would only read. What
    comes before the clock starts, one call of each included, does not count.
    """

    def __init__(self, tokens: list[str]) -> None:
        # So that no access token ends before its turn has come.
        jwt_auth = {**settings.JWT_AUTH, "ACCESS_TOKEN_LIFETIME": timedelta(hours=6)}
        override_settings(JWT_AUTH=jwt_auth).enable()
        self._tokens = tokens
        self._unseen: list[str] = []
        self._seen: list[str] = []
        self._since = timezone.now()
        self._counted = (0, 0)
        users = get_user_model().objects.filter(pk__gt=1)[:100_000]
        self._users = itertools.cycle(random.sample(list(users), min(2000, len(users))))

    def hand_over(self, number: int) -> list[str]:
        """Return so many of the refresh tokens, for somebody else."""
        return [self._tokens.pop() for _ in range(number)]

    def end(self, number: int) -> None:
        """Sign so many out, one by one: they are on the list of ended sessions now."""
        self._since = timezone.now()
        read = current().refresh_tokens.read
        for raw in self.hand_over(number):
            assert sessions.end(read(raw).session_id)
        self._counted = self._updates()

    def refresh(self, number: int) -> float:
        """Refresh sessions from anywhere in the table. Their access tokens are kept."""
        return self._time(number, iter(self.hand_over(number + 1)), self._refresh_one)

    def authenticate(self, number: int) -> float:
        """Know who calls, each time another session whose token was never seen."""
        raw = [self._unseen.pop() for _ in range(number + 1)]
        self._seen += raw
        return self._time(number, map(_request, raw), JWTAuthentication().authenticate)

    def authenticate_again(self, number: int) -> float:
        """Know who calls, each time another session whose token was seen before."""
        again = map(_request, random.sample(self._seen, number + 1))
        return self._time(number, again, JWTAuthentication().authenticate)

    def touch_the_user(self, number: int) -> float:
        """Know who calls, and read the row of the user, who is another one each time."""
        authenticate = JWTAuthentication().authenticate

        def touch(request: Request) -> None:
            found = authenticate(request)
            assert found is not None
            assert found[0].username

        again = map(_request, random.sample(self._seen, number + 1))
        return self._time(number, again, touch)

    def login(self, number: int) -> float:
        """Sign users in, without what their passwords would cost."""
        request = _request("")
        users = itertools.islice(self._users, number + 1)
        return self._time(number, users, lambda user: sessions.start(user, request))

    def renew(self, number: int) -> float:
        """Read the list of those that end() has ended."""

        def read(_: int) -> None:
            assert ended_sessions("default", self._since)

        return self._time(number, iter(range(number + 1)), read)

    def listed(self) -> int:
        """Return how long that list is."""
        return len(ended_sessions("default", self._since))

    def since(self) -> Any:
        """Return when the first of them was ended."""
        return self._since

    def plans(self, number: int, *names: str) -> dict[str, dict[str, Any]]:
        """Return what PostgreSQL tells of each statement of so many calls of *names*: medians."""
        told: dict[str, list[dict[str, Any]]] = {}
        for name in names:
            call = getattr(self, name)
            call(1)
            for _ in range(number):
                statements: list[dict[str, Any]] = []
                with connection.execute_wrapper(_Explain(statements)):
                    # The one call that does not count.
                    call(0)
                for one in statements:
                    told.setdefault(f"{name}: {one.pop('statement')}", []).append(one)
        return {
            statement: {
                key: all_of_it[-1][key]
                if key == "scans"
                else statistics.median(one[key] for one in all_of_it)
                for key in all_of_it[-1]
            }
            for statement, all_of_it in told.items()
        }

    def vacuum(self) -> float:
        """Return the seconds that it takes to clear away what updates have left."""
        with connection.cursor() as cursor:
            return timed(lambda: cursor.execute(f"VACUUM {TABLE}"))

    def sizes(self) -> dict[str, float]:
        """Return the bytes per row that the table and each of its indexes take."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*), pg_relation_size('{TABLE}') FROM {TABLE}")
            rows, heap = cursor.fetchone()
            cursor.execute(
                "SELECT attname, pg_relation_size(indexrelid) FROM pg_index"
                " JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
                " WHERE indrelid = %s::regclass ORDER BY indkey[0]",
                [TABLE],
            )
            indexes = {f"index on {column}": size / rows for column, size in cursor.fetchall()}
        return {"table": heap / rows, **indexes}

    def heap_only(self) -> float:
        """Return what share of the updates since end(), or since the last answer, was heap-only."""
        counted = self._updates()
        updated, heap_only = (now - then for now, then in zip(counted, self._counted, strict=True))
        self._counted = counted
        return heap_only / updated

    def rewrite(self, fillfactor: int) -> None:
        """Write the table anew, into pages that are full to this percentage.

        Then a checkpoint, after which each page goes into the log whole when it is next written.
        """
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {TABLE} SET (fillfactor = {fillfactor})")
            cursor.execute(f"VACUUM FULL ANALYZE {TABLE}")
            cursor.execute("CHECKPOINT")
        self._counted = self._updates()

    def refresh_again(self, number: int) -> None:
        """Refresh each session several times, which takes a grace of zero."""
        with override_settings(JWT_AUTH={**settings.JWT_AUTH, "REFRESH_GRACE": 0}):
            for at in itertools.islice(itertools.cycle(range(len(self._tokens))), number):
                self._tokens[at] = sessions.refresh(self._tokens[at]).refresh_token or ""

    def _refresh_one(self, raw: str) -> None:
        self._unseen.append(sessions.refresh(raw).access_token)

    def _updates(self) -> tuple[int, int]:
        """Return how many rows have been updated so far, and how many of them heap-only."""
        # Whoever says goodbye hands in what it has counted.
        connection.close()
        time.sleep(0.5)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s",
                [TABLE],
            )
            updated, heap_only = cursor.fetchone()
        return updated, heap_only

    def _time(self, number: int, given: Iterator[Any], call: Callable[[Any], object]) -> float:
        """Return the seconds of *number* calls, each with another one of what is *given*."""
        call(next(given))
        ready = list(given)
        assert len(ready) == number

        def all_of_them() -> None:
            for one in ready:
                call(one)

        return timed(all_of_them)


class _Explain:
    """Has PostgreSQL carry each statement out twice: once to tell how, and undone."""

    def __init__(self, told: list[dict[str, Any]]) -> None:
        self._told = told

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        with _undone(context["connection"].connection) as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {sql}", params)
            ((told,),) = cursor.fetchall()
        plan = told[0] if isinstance(told, list) else json.loads(told)[0]
        nodes = list(_nodes(plan["Plan"]))
        self._told.append(
            {
                "statement": sql.split()[0],
                "scans": [
                    f"{node['Node Type']} {node.get('Index Name') or node.get('Relation Name')}"
                    for node in nodes
                    if "Scan" in node["Node Type"]
                ],
                "pages": plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"],
                "log": plan["Plan"]["WAL Bytes"],
                "milliseconds": plan["Execution Time"],
            }
        )
        return execute(sql, params, many, context)


@contextmanager
def _undone(driver: Any) -> Iterator[Any]:
    with driver.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield cursor
        finally:
            cursor.execute("ROLLBACK")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _request(raw: str) -> Request:
    credential = {"HTTP_AUTHORIZATION": f"Bearer {raw}", "HTTP_USER_AGENT": AGENTS[0]}
    return Request(WSGIRequest(environ("/", credential)))
