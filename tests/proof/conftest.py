"""What every proof may ask for: the engine, other processes, and the table of outcomes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from jwt_auth.runtime import forget

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = pytest.StashKey[list[tuple[str, ...]]]()

# What each engine calls its isolation levels, the default first.
LEVELS: dict[str, list[Any]] = {
    "sqlite": [None],
    "postgresql": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    "mysql": ["read committed", "read uncommitted", "repeatable read", "serializable"],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every proof a database whose commits are real."""
    for item in items:
        if "tests/proof" in item.path.as_posix() and item.get_closest_marker("django_db") is None:
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture
def engine() -> str:
    return str(connection.vendor)


@pytest.fixture
def outcome(request: pytest.FixtureRequest, engine: str) -> Callable[..., None]:
    """Return a function that notes a line for the table of outcomes."""
    lines = request.config.stash.setdefault(OUTCOMES, [])

    def note(proof: str, rounds: Any, result: str) -> None:
        lines.append((engine, proof, str(rounds), result))

    return note


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of outcomes, in Markdown."""
    lines = config.stash.get(OUTCOMES, [])
    if not lines:
        return
    terminalreporter.section("outcomes")
    terminalreporter.write_line("| engine | proof | rounds | outcome |")
    terminalreporter.write_line("|---|---|---|---|")
    for line in lines:
        terminalreporter.write_line(f"| {' | '.join(line)} |")


@contextmanager
def isolation(level: str | None) -> Iterator[None]:
    """Have new connections of every thread work at the isolation *level*."""
    options = connections.settings["default"]["OPTIONS"]
    before = options.get("isolation_level")
    if level is not None:
        options["isolation_level"] = _as_option(level)
    connection.close()
    try:
        yield
    finally:
        options.pop("isolation_level", None)
        if before is not None:
            options["isolation_level"] = before
        connection.close()


def _as_option(level: str) -> Any:
    if connection.vendor != "postgresql":
        return level
    from psycopg import IsolationLevel

    return IsolationLevel[level.replace(" ", "_")]


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that shares the database of the tests."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings_proof",
        "JWT_AUTH_PROOF_NAME": str(connection.settings_dict["NAME"]),
        "PYTHONPATH": str(ROOT),
        **more,
    }


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts Python on a module of the tests, and stops it at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=child_environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def known_database(django_db_setup: None) -> Iterator[None]:
    """Drop what the process knows of an earlier proof's database."""
    forget()
    yield
    forget()
