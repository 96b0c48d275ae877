"""What one request may cost, whatever is sent: two seconds of the processor, and 50 MB."""

from __future__ import annotations

import time
import tracemalloc
from types import TracebackType

SECONDS = 2
MEMORY = 50 * 1024 * 1024


class Limits:
    """Demands of each request made in its `with` block that it keeps the limits.

    The most that any of them took is kept in `seconds` and `memory` (bytes). To trace
    memory makes a request three times as slow: `traced` says whether that is done.
    """

    def __init__(self) -> None:
        self.traced = True
        self.seconds = 0.0
        self.memory = 0
        self._began = 0.0

    def __enter__(self) -> None:
        if self.traced:
            tracemalloc.start()
        # Of the processor: on a busy machine nothing takes longer.
        self._began = time.process_time()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = time.process_time() - self._began
        memory = tracemalloc.get_traced_memory()[1]  # Zero where nothing is traced.
        tracemalloc.stop()
        if error is None:
            assert seconds < SECONDS
            assert memory < MEMORY
        self.seconds = max(self.seconds, seconds)
        self.memory = max(self.memory, memory)
