"""Measures everybody, part by part, and writes what came out into the documentation.

``tox run -e bench`` runs it. ``-- requests servers`` measures these parts alone, and the others
keep what they have; ``-- --quick`` shows in a minute or two that each part works, and writes
nothing into the documentation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Figure
from benchmarks.settings import POSTGRESQL

LABELS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
PACKAGES = {
    "Django": "django",
    "DRF": "djangorestframework",
    "PyJWT": "pyjwt",
    "cryptography": "cryptography",
    "joserfc": "joserfc",
    "simplejwt": "djangorestframework-simplejwt",
    "knox": "django-rest-knox",
    "allauth": "django-allauth",
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "psycopg": "psycopg",
}


@dataclass(frozen=True)
class Job:
    """A module of the benchmarks, and the database that it is run on."""

    module: str
    database: str

    @property
    def name(self) -> str:
        return f"{self.module} on {LABELS[self.database]}"


PARTS = [
    Job("requests", "sqlite"),
    Job("tokens", "sqlite"),
    Job("logins", "sqlite"),
    Job("logins", "postgresql"),
    Job("storage", "sqlite"),
    Job("servers", "postgresql"),
    Job("purge", "sqlite"),
    Job("purge", "postgresql"),
    Job("growth", "postgresql"),
]


class Failed(Exception):
    """A part ended with an error, or said what is no figure."""


def say(text: str) -> None:
    """Tell the progress."""
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Show a time that has passed."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def statement(sql: str) -> str | None:
    """Have PostgreSQL carry *sql* out; return the one value that it answers, if any."""
    import psycopg

    with psycopg.connect(
        host=POSTGRESQL["HOST"],
        port=POSTGRESQL["PORT"],
        user=POSTGRESQL["USER"],
        password=POSTGRESQL["PASSWORD"],
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
    ) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    return str(row[0]) if row else None


def postgresql() -> str | None:
    """Return the version of PostgreSQL, if it answers."""
    import psycopg

    try:
        shown = statement("SHOW server_version")
    except psycopg.OperationalError:
        return None
    # What follows is how a distribution calls it.
    return shown.split()[0] if shown else None


def drop(name: str) -> None:
    """Take a database of PostgreSQL away, if it and PostgreSQL are there."""
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        statement(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def versions() -> dict[str, str]:
    """Return what is measured, and what with."""
    found = {"Python": platform.python_version()}
    found |= {name: version(package) for name, package in PACKAGES.items()}
    found |= {"SQLite": sqlite3.sqlite_version}
    server = postgresql()
    return found | ({"PostgreSQL": server} if server else {})


def machine() -> str:
    """Return the processor, cores, memory and kernel."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {kernel}"


def run(job: Job, prefix: str, quick: bool) -> tuple[list[Figure], str | None]:
    """Run *job* in a process and with a database of its own.

    Returns its figures, or why it has none.

    Raises:
        Failed: it ended with an error.
    """
    folder = tempfile.mkdtemp()
    name = f"jwt_auth_benchmark_{os.getpid()}"
    place = str(Path(folder) / "benchmark.sqlite3") if job.database == "sqlite" else name
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCHMARK_")}
    environment |= {f"BENCHMARK_POSTGRESQL_{key}": value for key, value in POSTGRESQL.items()}
    environment |= {"BENCHMARK_DATABASE": job.database, "BENCHMARK_NAME": place}
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{job.module}", *(["--quick"] if quick else [])],
        cwd=report.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    began = time.monotonic()

    def retell() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            say(f"{prefix} {clock(time.monotonic() - began)} {line.rstrip()}")

    listener = threading.Thread(target=retell)
    listener.start()
    try:
        assert process.stdout is not None
        said = process.stdout.read()
        process.wait()
    finally:
        process.terminate()
        process.wait()
        listener.join()
        shutil.rmtree(folder)
        if job.database == "postgresql" and process.returncode:
            # A part that fails leaves it.
            drop(name)
    if process.returncode:
        raise Failed(f"exit code {process.returncode}")
    return read(said)


def read(said: str) -> tuple[list[Figure], str | None]:
    """Return the figures that a part has printed, or why it has none.

    Raises:
        Failed: something else was printed, or nothing.
    """
    figures, reason = [], None
    for line in said.splitlines():
        try:
            one = json.loads(line)
            if list(one) == ["not_measured"]:
                reason = str(one["not_measured"])
            else:
                figures.append(Figure(**one))
        except (TypeError, ValueError):
            raise Failed(f"this is no figure: {line!r}") from None
    if bool(figures) == bool(reason):
        raise Failed("figures and a reason for none" if figures else "no figures")
    return figures, reason


def measure(jobs: list[Job], quick: bool) -> tuple[dict[str, report.Part], list[str]]:
    """Run *jobs* one after the other; return what came out by name, and what failed."""
    began, date, where, with_ = time.monotonic(), datetime.now(UTC).date(), machine(), versions()
    parts, failures = {}, []
    for place, job in enumerate(jobs, 1):
        prefix = f"[{place}/{len(jobs)} {job.name}]"
        say(f"{prefix} begins, {clock(time.monotonic() - began)} after the start")
        figures: list[Figure] = []
        reason: str | None
        if job.database == "postgresql" and "PostgreSQL" not in with_:
            reason = "PostgreSQL does not answer"
            say(f"{prefix} left out: {reason}")
            if os.environ.get("CI") == "true":
                failures.append(f"{job.name}: {reason}")
        else:
            try:
                figures, reason = run(job, prefix, quick)
            except Failed as error:
                reason = "the part failed"
                say(f"{prefix} FAILED: {error}")
                failures.append(f"{job.name}: {error}")
        parts[job.name] = report.Part(job.name, date.isoformat(), with_, where, figures, reason)
    say(f"{len(jobs)} parts in {clock(time.monotonic() - began)}")
    return parts, failures


def merged(new: Mapping[str, report.Part], old: list[report.Part]) -> list[report.Part]:
    """Return the figures of *new*, and those of *old* that it does not renew, in order of PARTS.

    A part that could not be measured keeps its old figures, with their date and machine.
    """
    every = {one.name: one for one in old}
    for name, part in new.items():
        if part.figures or name not in every or not every[name].figures:
            every[name] = part
    return [every[job.name] for job in PARTS if job.name in every]


def judged(parts: list[report.Part]) -> list[str]:
    """Return what the figures should show and do not."""
    found = report.by_key(parts)
    wrong = [
        f"{one.what}, beside {one.beside}: {report.fraction(one.measured(found))},"
        f" has to be at {'least' if one.is_floor else 'most'} {one.bound}"
        for one in report.broken(found)
    ]
    if len(parts) == len(PARTS) and all(one.not_measured is None for one in parts):
        # Everything was measured: a figure has lost its name.
        wrong += [f"{one.what}: no figure {one.figure}" for one in report.unmeasured(found)]
    return wrong


def main(arguments: list[str]) -> int:
    """Measure, report, and say what does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    modules = list(dict.fromkeys(job.module for job in PARTS))
    parser.add_argument("--quick", action="store_true", help="only show that everything works")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(modules)}")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(modules):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    jobs = [job for job in PARTS if not asked.parts or job.module in asked.parts]
    new, wrong = measure(jobs, asked.quick)
    if asked.quick:
        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        parts = merged(new, [])
        report.save(parts, folder / report.FIGURES.name)
        report.draw(parts, folder / report.PLOT.name)
        (folder / report.PAGE.name).write_text(report.page(parts), "utf-8")
        say(f"written to {folder}: of a quick run, whose figures say nothing")
    else:
        parts = merged(new, report.load(report.FIGURES) if report.FIGURES.exists() else [])
        report.write(parts)
        wrong += judged(parts)
    print(report.page(parts))
    for one in wrong:
        say(f"NOT AS IT HAS TO BE: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
