"""A whole request through Django and DRF, in this process: what each contender adds to it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from benchmarks import project
from benchmarks.contenders import ALL, FLOOR, Contender
from benchmarks.figures import Figure, is_quick, say, timed

TABLE = "A whole DRF request, added to AllowAny"
# Where the views are, and which renderers they have. With those that DRF has by itself each
# answer has a ``Vary``, whoever guards the view; with JSON alone ours is the only one.
VIEWS = {"rendered": "DRF's own renderers", "view": "JSON alone"}


def environ(path: str, credential: dict[str, str]) -> dict[str, Any]:
    """Return what a server hands to WSGI."""
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": BytesIO(),
        "wsgi.url_scheme": "http",
        **credential,
    }


def prepare(contender: Contender, views: str) -> Callable[[int], list[float]]:
    """Return what calls the view of *contender* so often, in a handler with its middleware.

    It returns the seconds of each call.
    """
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    overridden = override_settings(MIDDLEWARE=contender.middleware, **contender.settings)
    with overridden:
        handler = WSGIHandler()
        credential = contender.credential(project.user())
    path = f"/{views}/{contender.name}/"

    def answered(status: str, headers: Any) -> None:
        assert status.startswith("200"), (contender.name, status)

    def once() -> None:
        handler(environ(path, credential), answered).close()

    def run(number: int) -> list[float]:
        with overridden:
            # The others have left nothing of ours in the processor's caches, nor in Python's.
            once()
            once()
            return [timed(once) for _ in range(number)]

    return run


def undisturbed(runs: Mapping[str, Callable[[int], list[float]]], rounds: int) -> dict[str, float]:
    """Return the seconds of one request of each of *runs*, when nothing came between.

    What authentication adds is small beside a request, and a machine that is shared is only ever
    slower than it is by itself. So it is the tenth part that was fastest, up to its slowest,
    of many that were made in turns.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name] += run(20)
    return {name: statistics.quantiles(each, n=10)[0] for name, each in taken.items()}


def queries(run: Callable[[int], list[float]]) -> float:
    """Return how many statements one request of *run* makes, when it is not the first."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    run(1)
    with CaptureQueriesContext(connection) as captured:
        run(1)
    # Two before the clock starts, one after.
    return len(captured) / 3


def main() -> None:
    quick = is_quick()
    project.begin()
    for views, case in VIEWS.items():
        say(f"whole requests, {case}")
        runs = {one.name: prepare(one, views) for one in ALL}
        seconds = undisturbed(runs, rounds=2 if quick else 400)
        floor = seconds.pop(FLOOR.name)
        Figure("A whole DRF request, in all", case, FLOOR.name, floor * 1e6, "µs").tell()
        for name, value in seconds.items():
            Figure(TABLE, case, name, (value - floor) * 1e6, "µs").tell()
    for name, run in runs.items():
        Figure(TABLE, "statements", name, queries(run), "").tell()
    project.end()


if __name__ == "__main__":
    main()
