"""A limit to the log records that one caller can cause."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable

logger = logging.getLogger("jwt_auth")

MAX_RECORDS = 10
PERIOD_SECONDS = 3600.0
MAX_SUBJECTS = 10_000


class RecordLimit:
    """Bounds the records about one subject: `MAX_RECORDS` of a kind an hour, in this process.

    A caller can repeat what causes a record, until the records about others drown.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin()

    def allows(self, kind: str, subject: Hashable) -> bool:
        """Tell whether one more record of *kind* about *subject* may be written.

        The first one that may not is announced by a record of its own.
        """
        if self._clock() >= self._end or len(self._counts) >= MAX_SUBJECTS:
            self._begin()
        self._counts[kind, subject] += 1
        count = self._counts[kind, subject]
        if count == MAX_RECORDS + 1:
            logger.warning(
                "More than %d records within an hour: %s, %s. Further ones are left out.",
                MAX_RECORDS,
                kind,
                ascii(subject)[:100],
            )
        return count <= MAX_RECORDS

    def _begin(self) -> None:
        self._counts: Counter[tuple[str, Hashable]] = Counter()
        self._end = self._clock() + PERIOD_SECONDS
