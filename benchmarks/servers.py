"""Requests per second of a real server, as wrk counts them.

One server for each contender serves the contender's view and one that asks nobody; both get the
same header. All servers are up at the same time, and wrk goes round among them, so that what
else the machine does is done to each. A server is one process: the other core is wrk's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote

from benchmarks import project
from benchmarks.contenders import ALL, BEHIND, FLOOR, Contender
from benchmarks.figures import (
    BESIDE,
    OURS,
    SIMPLEJWT,
    Figure,
    cannot_measure,
    is_quick,
    say,
    typical,
)

NO_WRK = "wrk is not installed"
CONNECTIONS = 8
SECONDS_TO_START = 30

GUNICORN = ["gunicorn", "benchmarks.wsgi", "--workers", "1", "--worker-class", "gthread"]
# With fewer, whoever asks the database would have the process wait for it.
GUNICORN += ["--threads", "4", "--keep-alive", "75", "--no-control-socket"]
UVICORN = ["uvicorn", "benchmarks.asgi:application", "--loop", "uvloop", "--http", "httptools"]
UVICORN += ["--lifespan", "off", "--no-access-log", "--timeout-keep-alive", "75"]

COMPARED = [
    one
    for one in ALL
    if one.name
    in (
        FLOOR.name,
        OURS,
        "simplejwt, stateless",
        SIMPLEJWT,
        "DRF TokenAuthentication",
        "sessions, db",
    )
]


class BadRun(Exception):
    """What wrk says is no measurement."""


@dataclass(frozen=True)
class Target:
    """What wrk asks for, and how often it was answered in a second, in one row of a table."""

    case: str
    contender: str
    url: str
    header: str | None
    is_guarded: bool


def requests_per_second(said: str) -> float:
    """Return the rate that wrk has printed.

    Raises:
        BadRun: not the output of a run, or one in which a request was not answered well.
    """
    bad = re.findall(r"^\s*(Non-2xx or 3xx responses: .*|Socket errors: .*)$", said, re.MULTILINE)
    if bad:
        raise BadRun("; ".join(bad))
    rates = re.findall(r"^Requests/sec:\s+(\d+\.\d+)$", said, re.MULTILINE)
    if len(rates) != 1 or float(rates[0]) == 0:
        raise BadRun(f"no rate in what wrk printed: {said!r}")
    return float(rates[0])


def wrk(target: Target, seconds: float) -> float:
    """Return how many requests per second *target* answered.

    wrk knows whole seconds alone; of a shorter run the rest is cut off by a signal, at which it
    prints what it has.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    if target.header is not None:
        command += ["-H", target.header]
    process = subprocess.Popen([*command, target.url], stdout=subprocess.PIPE, text=True)
    try:
        if seconds < 1:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=seconds + 10)
    finally:
        process.kill()
    try:
        return requests_per_second(said)
    except BadRun as error:
        raise BadRun(f"{target.contender}, {target.case}: {error}") from None


@contextmanager
def serving(command: list[str], contender: Contender, **environment: str) -> Iterator[str]:
    """Serve *contender*'s project with one process; return its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    where = ["--bind", f"127.0.0.1:{port}"] if command[0] == "gunicorn" else ["--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, *where, "--log-level", "warning"],
        env={**os.environ, "BENCHMARK_CONTENDER": contender.name, **environment},
        stdout=sys.stderr,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(process, address)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while process.poll() is None and time.monotonic() < end:
        try:
            status(f"{address}/async/", None)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the server does not start: {process.args!r}")


def status(url: str, header: str | None) -> int:
    """Return the status of the answer to one request."""
    name, _, value = (header or "Accept: */*").partition(": ")
    request = urllib.request.Request(url, headers={name: value})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def header_of(contender: Contender) -> str | None:
    """Sign in as *contender*'s client; return the header that it sends, if any."""
    from django.test import override_settings

    with override_settings(**contender.settings):
        credential = contender.credential(project.user())
    for name, value in credential.items():
        return f"{name.removeprefix('HTTP_').capitalize()}: {value}"
    return None


def demand(target: Target) -> None:
    """Demand that *target* answers its client, and, where it is guarded, nobody else."""
    assert status(target.url, target.header) == 200, target
    if target.is_guarded:
        broken = f"{target.header[:-6]}broken" if target.header else None
        assert status(target.url, broken) in (401, 403), target


def measure(table: str, targets: list[Target], *, seconds: float, rounds: int) -> None:
    """Tell the typical rate of each of *targets*."""
    for target in targets:
        demand(target)
        # Processes and connections that have not worked yet are not what is asked about.
        wrk(target, min(seconds, 1))
    rates = defaultdict(list)
    for number in range(rounds):
        say(f"{table}: round {number + 1} of {rounds}")
        for target in targets:
            rates[target].append(wrk(target, seconds))
    for target, rate in typical(rates).items():
        Figure(table, target.case, target.contender, rate, "/s").tell()


def drf_views(
    command: list[str], contenders: list[Contender], *, seconds: float, rounds: int
) -> None:
    """Measure DRF's view of each of *contenders*, and beside it the one that asks nobody.

    Both have the renderers that DRF has by itself.
    """
    targets = []
    with ExitStack() as stack:
        for one in contenders:
            # As large as it has to be for no request to wait.
            pool = {"BENCHMARK_POOL": str(CONNECTIONS)} if command is UVICORN else {}
            address = stack.enter_context(serving(command, one, **pool))
            floor = Target(
                BESIDE, one.name, f"{address}/rendered/{quote(FLOOR.name)}/", header_of(one), False
            )
            if one is FLOOR:
                targets.append(replace(floor, case="a DRF view"))
            else:
                url = f"{address}/rendered/{quote(one.name)}/"
                targets += [floor, replace(floor, case="a DRF view", url=url, is_guarded=True)]
        measure(f"Requests per second, {command[0]}", targets, seconds=seconds, rounds=rounds)


def async_views(*, seconds: float, rounds: int) -> None:
    """Measure Django's async view behind the middleware, and the same view without it."""
    header = header_of(BEHIND)
    with serving(UVICORN, FLOOR) as bare, serving(UVICORN, BEHIND) as behind:
        targets = [
            Target("an async view", FLOOR.name, f"{bare}/async/", header, False),
            Target("an async view", OURS, f"{behind}/async/", header, True),
        ]
        measure(
            "Requests per second, uvicorn, without DRF", targets, seconds=seconds, rounds=rounds
        )


def main() -> None:
    quick = is_quick()
    os.environ.setdefault("BENCHMARK_DATABASE", "postgresql")
    if shutil.which("wrk") is None:
        cannot_measure(NO_WRK, "apt-get install wrk")
    # Whoever ends this process ends the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    project.begin()
    try:
        if quick:
            some = [one for one in COMPARED if one.name in (FLOOR.name, OURS, SIMPLEJWT)]
            drf_views(GUNICORN, some, seconds=0.5, rounds=1)
        else:
            drf_views(GUNICORN, COMPARED, seconds=1, rounds=30)
            drf_views(UVICORN, COMPARED, seconds=1, rounds=9)
            async_views(seconds=1, rounds=11)
    finally:
        project.end()


if __name__ == "__main__":
    main()
