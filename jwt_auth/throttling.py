"""Brakes for logins and refreshes: counters in Django's cache, taken before the work is done.

Tries are reserved and, when they succeed, given back. So a burst of parallel guesses
cannot slip through before the first one has failed. If the cache fails, logins go on.
"""

from __future__ import annotations

import hashlib
import logging
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied

from jwt_auth.conf import Rate
from jwt_auth.errors import InvalidCredentials, Throttled
from jwt_auth.runtime import current
from jwt_auth.transports import countable_address

logger = logging.getLogger("jwt_auth")

# While the cache is down, one record in so many seconds.
SECONDS_BETWEEN_RECORDS = 60.0
# Longer than any name. What is longer still shares the counter of its beginning: one letter may
# have eighteen, once it is normalized, and nobody has signed in yet.
LONGEST_NAME = 1024

_next_record = 0.0


@contextmanager
def login_tries(request: Any, account: str) -> Iterator[None]:
    """Count what is tried inside, if it fails with `InvalidCredentials`.

    Or with DRF's `AuthenticationFailed` or `PermissionDenied`, as a serializer of the
    project's own may. Other errors are nobody's guess.

    By account and address, by account, and by address. *request* is Django's. An address
    that may be everybody's is not counted, see countable_address().

    Raises:
        Throttled: there were too many failures; nothing inside was run.
    """
    name = _normalized(account)
    address = countable_address(request)
    subjects = {}
    if address is not None:
        subjects["login_address"] = address
    if name:
        # A login of the project's own may go by something else.
        subjects["login_account"] = name
    if name and address is not None:
        subjects["login"] = f"{address} {name}"
    tries = _take(subjects)
    try:
        yield
    except (InvalidCredentials, AuthenticationFailed, PermissionDenied, DjangoPermissionDenied):
        raise
    except BaseException:
        _give_back(tries)
        raise
    _give_back(tries)


def count_refresh(session_id: UUID) -> None:
    """Count a refresh of a session, which no other reason refuses.

    Raises:
        Throttled: there were too many. To be repeated while `REFRESH_GRACE` lasts.
    """
    try:
        _take({"refresh": str(session_id)})
    except Throttled as throttled:
        grace = int(current().settings.refresh_grace.total_seconds())
        # What waits for longer than the grace would be taken for a thief.
        raise Throttled(max(1, min(throttled.wait, grace - 1))) from None


def _take(subjects: Mapping[str, str]) -> list[str]:
    """Reserve one try for each of *subjects*, or none; return the counters' keys."""
    rates = current().settings.throttle_rates
    taken: list[str] = []
    for name, subject in subjects.items():
        rate = rates.get(name)
        if rate is None:
            continue
        key, wait = _key(name, subject, rate)
        count = _add(key, 1, rate.seconds)
        if count is None:
            continue
        taken.append(key)
        if count > rate.tries:
            # One that was not tried does not count.
            _give_back(taken)
            raise Throttled(wait)
    return taken


def _give_back(keys: list[str]) -> None:
    for key in keys:
        _add(key, -1, None)


def _key(name: str, subject: str, rate: Rate) -> tuple[str, int]:
    """Return the counter's key, and in how many seconds the next counter begins."""
    # A digest: no cache's limits are met, and a copy of it names nobody at a glance.
    digest = hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()
    window, passed = divmod(int(time.time()), rate.seconds)
    return f"jwt_auth.throttle.{name}.{window}.{digest}", rate.seconds - passed


def _add(key: str, number: int, seconds: int | None) -> int | None:
    """Change a counter by *number*; return its value, or `None` if nobody can tell."""
    try:
        try:
            return int(cache.incr(key, number))
        except ValueError:
            # Not there: the first try of this window, or evicted.
            if seconds is None or cache.add(key, number, seconds):
                return number
            return int(cache.incr(key, number))
    except Exception as error:  # noqa: BLE001
        # A cache fails in the way of its library. Nobody can sign in if this stops them.
        _record(error)
        return None


def _record(error: Exception) -> None:
    global _next_record
    now = time.monotonic()
    if now >= _next_record:
        _next_record = now + SECONDS_BETWEEN_RECORDS
        logger.warning("The cache failed (%s): tries are not counted.", type(error).__name__)


def _normalized(account: str) -> str:
    """Return what all spellings share that some database takes for the same name.

    Collations of MariaDB ignore case, accents, spaces at the end, and characters that
    nobody sees.
    """
    # As the serializer strips it: spaces in front must not push the name out of the cut.
    letters = unicodedata.normalize("NFKD", account.strip()[:LONGEST_NAME].casefold())
    return "".join(one for one in letters if unicodedata.category(one)[0] not in "MCZ")
