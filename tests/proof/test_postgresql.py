"""What PostgreSQL does for a refresh, beside a purge, and with a million sessions ended at once."""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jwt_auth import sessions
from jwt_auth.errors import SessionEnded
from jwt_auth.models import LoginSession
from jwt_auth.revocation import ended_sessions
from jwt_auth.runtime import current
from jwt_auth.tokens.access import SessionFacts
from jwt_auth.tokens.refresh import RefreshToken
from tests.proof.races import attempt

PACKED = int(os.environ.get("JWT_AUTH_PROOF_PACKED", "20000"))
EXPIRED = int(os.environ.get("JWT_AUTH_PROOF_EXPIRED", "1000000"))
ENDED = int(os.environ.get("JWT_AUTH_PROOF_ENDED", "1000000"))
SAMPLE = 500
TABLE = LoginSession._meta.db_table

# What the project promises.
HOT_SHARE = 0.9
PURGE_MEMORY, PURGE_STATEMENT, PURGE_SLOWDOWN = 60 * 10**6, 1.0, 3.0
READ_SECONDS, READ_MEMORY = 0.05, 5 * 10**6


@pytest.fixture(autouse=True)
def postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("says something of PostgreSQL alone")


def sql(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Execute *statement*; return the rows of its answer."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def pack(number: int) -> list[str]:
    """Have *number* users sign in one after the other; return their refresh tokens."""
    users = User.objects.bulk_create(
        [User(username=f"user{n}", password="!") for n in range(number)], batch_size=1000
    )
    runtime, now = current(), timezone.now() - timedelta(minutes=10)
    mark = runtime.password_marks.current(users[0])
    tokens = [RefreshToken.first() for _ in users]
    LoginSession.objects.bulk_create(
        [
            LoginSession(
                id=token.session_id,
                user=user,
                rotated_at=now,
                created_at=now,
                expires_at=now + timedelta(days=90),
                password_mark=mark,
                amr=["pwd"],
                device="Ada's telephone",
                ip="192.0.2.7",
                user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            )
            for token, user in zip(tokens, users, strict=True)
        ],
        batch_size=1000,
    )
    sql("ANALYZE")
    return [runtime.refresh_tokens.mint(token) for token in tokens]


def fill(number: int, user: User, *, signed_in: datetime) -> None:
    """Insert *number* sessions of *user* that began then."""
    sql(
        f"INSERT INTO {TABLE}"  # noqa: S608
        " (id, user_id, generation, rotated_at, password_mark, amr, claims,"
        " device, ip, user_agent, created_at, expires_at, revoked_at, revoked_reason)"
        " SELECT gen_random_uuid(), %s, 3, %s, repeat('0', 32), '[\"pwd\"]', '{}',"
        " 'telephone', '192.0.2.7', repeat('x', 80), %s, %s, NULL, ''"
        " FROM generate_series(1, %s)",
        *(user.pk, signed_in, signed_in, signed_in + timedelta(days=90), number),
    )
    sql(f"ANALYZE {TABLE}")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk through a plan as EXPLAIN tells it."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_plans(settings: Any, outcome: Callable[..., None]) -> None:
    settings.JWT_AUTH = {"ROLES": None}
    tokens = pack(PACKED)
    with CaptureQueriesContext(connection) as captured:
        assert attempt(tokens[PACKED // 2]).startswith("jwtr_")
    used = []
    for query in captured.captured_queries:
        (answer,) = sql(f"EXPLAIN (FORMAT JSON) {query['sql']}")
        plan = answer[0] if isinstance(answer[0], list) else json.loads(answer[0])
        reads = [node for node in nodes(plan[0]["Plan"]) if "Scan" in node["Node Type"]]
        assert {node["Node Type"] for node in reads} == {"Index Scan"}, reads
        used.append({node["Index Name"] for node in reads})
    assert used == [{f"{TABLE}_pkey", "auth_user_pkey"}, {f"{TABLE}_pkey"}]
    outcome("EXPLAIN of SELECT and UPDATE", f"{PACKED} rows", "index scans of primary keys only")


@contextmanager
def fillfactor(percent: int | None) -> Iterator[None]:
    """Have the empty table be filled to that much."""
    if percent is not None:
        sql(f"ALTER TABLE {TABLE} SET (fillfactor = {percent})")
    try:
        yield
    finally:
        sql(f"ALTER TABLE {TABLE} RESET (fillfactor)")


def updates() -> tuple[int, int]:
    """Return how many rows of the table were updated, and how many of them heap-only."""
    # Whoever says goodbye hands in what it has counted.
    connection.close()
    (counts,) = sql(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s", TABLE
    )
    return counts


@pytest.mark.parametrize(("percent", "least"), [(None, HOT_SHARE), (85, 1.0)])
def test_heap_only(outcome: Callable[..., None], percent: int | None, least: float) -> None:
    with fillfactor(percent):
        tokens = pack(PACKED)
        random.shuffle(tokens)
        before = updates()
        assert all(attempt(raw).startswith("jwtr_") for raw in tokens)
        deadline = time.monotonic() + 30
        while (after := updates())[0] - before[0] < PACKED and time.monotonic() < deadline:
            time.sleep(0.1)
    updated, heap_only = (new - old for new, old in zip(after, before, strict=True))
    assert updated == PACKED
    outcome(
        f"heap-only updates, fillfactor {percent or 100}",
        f"{PACKED} refreshes",
        f"{heap_only} ({heap_only / updated:.3f})",
    )
    assert heap_only / updated >= least


def test_purge(user: User, outcome: Callable[..., None], start_python: Callable[..., Any]) -> None:
    fill(EXPIRED, user, signed_in=timezone.now() - timedelta(days=100))
    pair = sessions.start(user)
    raw, row = pair.refresh_token or "", LoginSession.objects.filter(pk=pair.session_id)

    def timed_refresh() -> float:
        nonlocal raw
        row.update(rotated_at=timezone.now() - timedelta(minutes=10))
        began = time.perf_counter()
        raw = attempt(raw)
        return time.perf_counter() - began

    before = statistics.median(timed_refresh() for _ in range(500))
    purger = start_python("-m", "tests.proof.purger")
    took = []
    while purger.poll() is None:
        took.append(timed_refresh())
        time.sleep(0.005)
    meanwhile = statistics.median(took)
    said = json.loads(purger.stdout.read())
    assert raw.startswith("jwtr_")
    assert (said["rows"], LoginSession.objects.count()) == (EXPIRED, 1)
    outcome(
        "purge beside refreshes",
        f"{EXPIRED} expired rows",
        f"{said['seconds']:.0f} s, memory +{said['grew'] / 1e6:.1f} MB, longest statement "
        f"{said['longest'] * 1000:.0f} ms; refresh {before * 1000:.1f} ms before, "
        f"{meanwhile * 1000:.1f} ms meanwhile",
    )
    assert said["grew"] < PURGE_MEMORY
    assert said["longest"] <= PURGE_STATEMENT
    assert meanwhile <= PURGE_SLOWDOWN * before


def measured_read() -> tuple[float, int]:
    """Read the list; return the median of several times, and the most memory."""
    since = timezone.now() - current().revocation_window
    times = []
    # What the tests have on the heap is collected at moments that say nothing of a read.
    gc.collect()
    gc.freeze()
    for _ in range(10):
        began = time.perf_counter()
        found = ended_sessions("default", since)
        times.append(time.perf_counter() - began)
        assert found
        del found
    tracemalloc.start()
    try:
        ended_sessions("default", since)
        # What else the machine does shows in single reads.
        return statistics.median(times), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def test_everybody_ended(user: User, outcome: Callable[..., None]) -> None:
    runtime, now = current(), timezone.now()
    fill(ENDED, user, signed_in=now)
    held = [sessions.start(user).access_token for _ in range(SAMPLE)]
    for pk in LoginSession.objects.order_by("?").values_list("pk", flat=True)[:SAMPLE]:
        facts = SessionFacts(pk, now, ("pwd",), now + timedelta(days=90))
        issued = runtime.access_tokens.issue(
            runtime.accounts.subject(user), now=now, session=facts, roles=None, extra={}
        )
        held.append(issued.raw)
    runtime.authenticator.verify(held[0])
    LoginSession.objects.all().end(sessions.ADMINISTRATION, timezone.now())
    # As the planner knows the table before, and after, autovacuum has come round.
    reads = {"at once": measured_read()}
    sql(f"ANALYZE {TABLE}")
    reads["analyzed"] = measured_read()
    sql(f"VACUUM ANALYZE {TABLE}")
    reads["vacuumed"] = measured_read()
    time.sleep(runtime.settings.revocation_interval.total_seconds())
    for raw in held:
        with pytest.raises(SessionEnded):
            runtime.authenticator.verify(raw)
    outcome(
        "sessions ended at once",
        f"{ENDED} sessions",
        "; ".join(
            f"read {name} {seconds * 1000:.0f} ms, {size / 1e6:.1f} MB"
            for name, (seconds, size) in reads.items()
        )
        + f"; {len(held)} tokens of the sample refused",
    )
    assert max(seconds for seconds, _ in reads.values()) <= READ_SECONDS
    assert max(size for _, size in reads.values()) <= READ_MEMORY
