"""A whole request through Django and DRF, in this process: what each contender adds to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from benchmarks import project
from benchmarks.contenders import ALL, FLOOR, Contender
from benchmarks.figures import Figure, is_quick, say, side_by_side

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


def prepare(contender: Contender, views: str) -> Callable[[int], float]:
    """Return what calls the view of *contender* so often, in a handler with its middleware."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    overridden = override_settings(MIDDLEWARE=contender.middleware, **contender.settings)
    with overridden:
        handler = WSGIHandler()
        credential = contender.credential(project.user())
    path = f"/{views}/{contender.name}/"

    def answered(status: str, headers: Any) -> None:
        assert status.startswith("200"), (contender.name, status)

    def run(number: int) -> float:
        with overridden:
            handler(environ(path, credential), answered).close()
            began = time.perf_counter()
            for _ in range(number):
                handler(environ(path, credential), answered).close()
            return time.perf_counter() - began

    return run


def queries(run: Callable[[int], float]) -> float:
    """Return how many statements one request of *run* makes, when it is not the first."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    run(1)
    with CaptureQueriesContext(connection) as captured:
        run(1)
    # One before the clock starts, one after.
    return len(captured) / 2


def main() -> None:
    quick = is_quick()
    project.begin()
    for views, case in VIEWS.items():
        say(f"whole requests, {case}")
        runs = {one.name: prepare(one, views) for one in ALL}
        seconds = side_by_side(runs, number=20 if quick else 100, rounds=2 if quick else 81)
        floor = seconds.pop(FLOOR.name)
        Figure("A whole DRF request, in all", case, FLOOR.name, floor * 1e6, "µs").tell()
        for name, value in seconds.items():
            Figure(TABLE, case, name, (value - floor) * 1e6, "µs").tell()
    for name, run in runs.items():
        Figure(TABLE, "statements", name, queries(run), "").tell()
    project.end()


if __name__ == "__main__":
    main()
