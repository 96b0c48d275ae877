"""Which sessions were ended lately, published for services that share no database."""

from __future__ import annotations

import threading
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from jwt_auth.errors import Unavailable
from jwt_auth.models import LoginSession, database_answers
from jwt_auth.revocation import RevocationList, Snapshot
from jwt_auth.tokens.revoked import LONGEST_PUBLISHED, Publisher

# How long a request waits for another one that makes the list.
PATIENCE = 1.0
# How long an end may wait for its commit, after it was dated.
COMMIT_LAG = timedelta(seconds=5)


class PublishedList:
    """The list as other services may have it, signed once for each reading of it."""

    def __init__(
        self, revocations: RevocationList, publisher: Publisher, window: timedelta
    ) -> None:
        self._revocations = revocations
        self._publisher = publisher
        self._window = window
        self._lock = threading.Lock()
        self._signed: tuple[tuple[int, bool, int], str] | None = None

    def text(self) -> str:
        """Return the signed list.

        Without a query but the list's own; with one per reading while it is too long for
        this process to keep.

        Raises:
            Unavailable: there is none, or none that is young enough.
        """
        snapshot = self._revocations.current()
        # What this process ends is added to the list that it has read.
        edition = snapshot.number, snapshot.complete, len(snapshot.session_ids)
        # Who holds it may be asking a database that hangs.
        if not self._lock.acquire(timeout=PATIENCE):
            raise Unavailable
        try:
            if self._signed is None or self._signed[0] != edition:
                self._signed = edition, self._publisher.sign(*self._named(snapshot))
            return self._signed[1]
        finally:
            self._lock.release()

    def _named(self, snapshot: Snapshot) -> tuple[Collection[UUID], datetime, datetime | None]:
        """Return which sessions are named, as of when, and since when if not all are."""
        began_at = datetime.fromtimestamp(snapshot.began_at, UTC)
        if snapshot.complete:
            # At once: another thread may add to it.
            return tuple(snapshot.session_ids), began_at, None
        newest = self._newest(began_at)
        session_ids = {session_id for session_id, _ in newest[:LONGEST_PUBLISHED]}
        if len(newest) <= LONGEST_PUBLISHED:
            return session_ids, began_at, None
        # Tokens of sessions that are not named were issued before that.
        return session_ids, began_at, newest[LONGEST_PUBLISHED - 1][1] + COMMIT_LAG

    def _newest(self, began_at: datetime) -> list[tuple[UUID, datetime]]:
        """Read up to one more of the newest ends than can be named, with their times."""
        ended = LoginSession.objects.on_primary().filter(revoked_at__gte=began_at - self._window)
        rows: Any = ended.order_by("-revoked_at").values_list("pk", "revoked_at")
        with database_answers():
            return list(rows[: LONGEST_PUBLISHED + 1])
