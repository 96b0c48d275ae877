"""Threads that refresh one token at the same moment, each with a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from django.db import connections

from jwt_auth import sessions
from jwt_auth.errors import Rejected, Unavailable

PATIENCE = 60


def attempt(raw: str) -> str:
    """Refresh *raw*; return the new refresh token, or the code of the refusal."""
    try:
        return sessions.refresh(raw).refresh_token or ""
    except (Rejected, Unavailable) as error:
        return error.code
    except Exception as error:  # noqa: BLE001
        return f"crashed: {type(error).__name__}: {error}"


class Racers:
    """Threads that wait for a token and then all use it at once."""

    def __init__(self, number: int) -> None:
        self._line = threading.Barrier(number + 1, timeout=PATIENCE)
        self._raw: str | None = None
        self._before: Callable[[], object] = lambda: None
        self._results: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._line.abort()
            return
        self._raw = None
        self._line.wait()
        for thread in self._threads:
            thread.join()

    def race(self, raw: str, before: Callable[[], object] = lambda: None) -> list[str]:
        """Have every thread refresh *raw* after *before*; return what each got."""
        self._raw, self._before, self._results = raw, before, []
        self._line.wait()
        self._line.wait()
        return self._results

    def _run(self) -> None:
        try:
            connections["default"].ensure_connection()
            while True:
                self._line.wait()
                if self._raw is None:
                    return
                self._before()
                self._results.append(attempt(self._raw))
                self._line.wait()
        except threading.BrokenBarrierError:
            pass
        finally:
            connections.close_all()
