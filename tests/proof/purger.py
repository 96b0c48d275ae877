"""A process that purges, and says in JSON what that took.

``rows`` deleted, ``seconds``, the ``longest`` statement in seconds, and by how many bytes its
memory ``grew`` at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

from tests.proof.racer import say


def memory(name: str) -> int:
    """Return ``VmRSS`` (now) or ``VmHWM`` (at most so far) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Purge once."""
    django.setup()

    from django.db import connection

    from jwt_auth import sessions

    longest = 0.0

    def watch(execute: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal longest
        began = time.monotonic()
        try:
            return execute(*arguments)
        finally:
            longest = max(longest, time.monotonic() - began)

    connection.ensure_connection()
    before, began = memory("VmRSS"), time.monotonic()
    with connection.execute_wrapper(watch):
        rows = sessions.purge()
    seconds = time.monotonic() - began
    grew = memory("VmHWM") - before
    say(json.dumps({"rows": rows, "seconds": seconds, "longest": longest, "grew": grew}))


if __name__ == "__main__":
    main()
