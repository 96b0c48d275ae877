"""Deleting what has ended: the purge, and simplejwt's flush, a million rows each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest.mock import patch
from uuid import uuid4

from benchmarks import project
from benchmarks.figures import OURS, SIMPLEJWT, Figure, is_quick, say, timed

# The figures are those of a million whatever number of rows was there. With a million SQLite,
# whose pages are then in no cache, would take ten minutes.
ROWS, QUICK_ROWS = {"postgresql": 1_000_000, "sqlite": 200_000}, 2000
MILLION = 1_000_000
TABLE = "Purge, per million rows"


def purge() -> tuple[float, float]:
    """Purge the sessions. Return the seconds in all, and those of them without the rests."""
    from jwt_auth import sessions

    sleep, rested = time.sleep, 0.0

    def rest(seconds: float) -> None:
        nonlocal rested
        rested += timed(lambda: sleep(seconds))

    with patch("jwt_auth.sessions.time.sleep", rest):
        seconds = timed(sessions.purge)
    return seconds, seconds - rested


def fill_simplejwt(number: int) -> None:
    """Add so many rows: refresh tokens that were rotated, and the blacklisting of each.

    Half of the tokens have expired.
    """
    from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
    from rest_framework_simplejwt.tokens import RefreshToken

    from benchmarks.rows import Row, load, times

    user, at = project.user(), times()
    lives, over = at(-86400), at(86400)
    # The text of each is as long as this one.
    token = str(RefreshToken.for_user(user))
    OutstandingToken.objects.all().delete()

    def outstanding() -> Iterator[Row]:
        for key in range(1, number // 2 + 1):
            jti, expires = uuid4().hex, lives if key % 2 else over
            yield str(key), str(user.pk), jti, token[:-32] + jti, at(14 * 86400), expires

    def blacklisted() -> Iterator[Row]:
        for key in range(1, number // 2 + 1):
            yield str(key), str(key), at(13 * 86400)

    load(OutstandingToken, outstanding())
    load(BlacklistedToken, blacklisted())


def main() -> None:
    quick = is_quick()
    try:
        project.begin()
        from django.db import connection

        measure(QUICK_ROWS if quick else ROWS[connection.vendor])
    finally:
        project.end()


def measure(number: int) -> None:
    """Purge *number* rows of each, of which half are over."""
    from django.core.management import call_command
    from django.db import connection
    from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

    from benchmarks import rows
    from jwt_auth.models import LoginSession

    database = f"{connection.vendor}, {number:,} rows, half of them over"
    scale = MILLION / number
    say(f"purge: {database}")
    rows.fill(number, signed_out=0.5)
    rows.settle()
    in_all, working = purge()
    left = LoginSession.objects.count()
    assert 0.4 * number < left < 0.6 * number, left
    case = f"{database}: in all, with a rest as long as each batch"
    Figure(TABLE, case, OURS, in_all * scale, "s").tell()
    Figure(TABLE, f"{database}: at work", OURS, working * scale, "s").tell()

    say(f"flushexpiredtokens: {database}")
    fill_simplejwt(number)
    rows.settle()
    seconds = timed(lambda: call_command("flushexpiredtokens"))
    assert OutstandingToken.objects.count() + BlacklistedToken.objects.count() == number // 2
    Figure(TABLE, f"{database}: at work", SIMPLEJWT, seconds * scale, "s").tell()


if __name__ == "__main__":
    main()
