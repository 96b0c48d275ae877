"""The plugin that has pytest do the work; ``__main__.py`` loads it.

With `DURATIONS` in the environment it writes how long each test has taken. With `JOBS` it
runs no test as such. It has pytest import everything and collect, prepares the database, and
then forks a child for each mutant. In there the code of one function is exchanged in memory,
which reaches all who have imported it, and the tests run that may notice.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.refusals import ROOT, Mutant, find

DURATIONS = "JWT_AUTH_MUTANTS_DURATIONS"
JOBS = "JWT_AUTH_MUTANTS_JOBS"
RESULTS = "JWT_AUTH_MUTANTS_RESULTS"
WORKERS = 2
# How long one test may take before it counts as caught in the mutant.
PATIENCE = 120.0

PASSED, FAILED, OVERDUE, CRASHED = "passed", "failed", "overdue", "crashed"

_durations: dict[str, float] = {}


class Outcome(NamedTuple):
    """How the run of some tests has ended, and in which of them."""

    word: str
    test: str | None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how long a test takes, with what it needs before and after."""
    _durations[report.nodeid] = _durations.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    """Write how long the tests have taken, if that was asked for."""
    if DURATIONS in os.environ:
        Path(os.environ[DURATIONS]).write_text(json.dumps(_durations), encoding="utf-8")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Try the mutants, where that was asked for; otherwise the tests run as ever."""
    if JOBS not in os.environ:
        return None
    if session.testsfailed:
        raise session.Interrupted("a file of tests cannot be collected")
    jobs = json.loads(Path(os.environ[JOBS]).read_text(encoding="utf-8"))
    results = os.open(os.environ[RESULTS], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _Laboratory(session, jobs, results).work()
    return True


class _Laboratory:
    """Tries mutants on the tests that *jobs* names for each, by two workers."""

    def __init__(self, session: pytest.Session, jobs: dict[str, list[str]], results: int) -> None:
        self._items = {item.nodeid: item for item in session.items}
        self._jobs = jobs
        self._results = results
        self._anchor = session.items[-1]
        self._mutants = [one for one in find() if one.name in jobs]
        self._functions = _functions(self._mutants)
        # Which tests pass by themselves, and with the code as it is.
        self._sound: dict[str, bool] = {}

    def work(self) -> None:
        """Try all mutants, and leave a line of JSON for each."""
        self._prepare()
        # Written and read in pieces that no pipe tears apart.
        reading, writing = os.pipe()
        for number in range(len(self._mutants)):
            os.write(writing, number.to_bytes(4))
        os.close(writing)
        gc.freeze()
        others = []
        for _ in range(WORKERS - 1):
            pid = os.fork()
            if pid == 0:
                try:
                    self._try_all(reading)
                    os._exit(0)
                finally:
                    os._exit(1)
            others.append(pid)
        self._try_all(reading)
        if any(os.waitpid(pid, 0)[1] != 0 for pid in others):
            raise RuntimeError("a worker has failed")

    def _try_all(self, numbers: int) -> None:
        while data := os.read(numbers, 4):
            mutant = self._mutants[int.from_bytes(data)]
            outcome = self._tried(mutant)
            line = json.dumps([mutant.name, outcome.word, outcome.test])
            os.write(self._results, f"{line}\n".encode())

    def _prepare(self) -> None:
        """Have what all tests share made once: the database and the folder for files."""
        for wanted in ("db", "tmp_path"):
            first = next((x for x in self._items.values() if wanted in x.fixturenames), None)
            if first is not None:
                # With one more to come, pytest keeps what belongs to the whole session.
                reports = runtestprotocol(first, log=False, nextitem=self._anchor)
                if any(report.failed for report in reports):
                    raise RuntimeError(f"{first.nodeid} fails without a mutant")
        if threading.active_count() > 1:
            raise RuntimeError("a thread is running, which no fork would take along")

    def _tried(self, mutant: Mutant) -> Outcome:
        tests = self._jobs[mutant.name]
        while tests:
            outcome = self._run(mutant, tests)
            killer = outcome.test
            if killer is None:
                return outcome
            if self._is_sound(killer) and (
                outcome.word == OVERDUE or self._run(mutant, [killer]).word != PASSED
            ):
                return outcome
            # It fails without the mutant, or only after others.
            tests = tests[tests.index(killer) + 1 :]
        return Outcome(PASSED, None)

    def _is_sound(self, test: str) -> bool:
        if test not in self._sound:
            self._sound[test] = self._run(None, [test]).word == PASSED
        return self._sound[test]

    def _run(self, mutant: Mutant | None, tests: list[str]) -> Outcome:
        """Run *tests* in a child up to the first that fails, against *mutant* if there is one."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._be_child(mutant, tests, writing)
        os.close(writing)
        number, word = -1, CRASHED
        try:
            # The child says of each test that it begins, and in the end how it went.
            while select.select([reading], [], [], PATIENCE)[0]:
                said = os.read(reading, 1)
                if said == b".":
                    number += 1
                    continue
                word = {b"p": PASSED, b"f": FAILED}.get(said, CRASHED)
                break
            else:
                word = OVERDUE
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
        return Outcome(word, None if word == PASSED else tests[max(number, 0)])

    def _be_child(self, mutant: Mutant | None, tests: list[str], writing: int) -> NoReturn:
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            if mutant is not None:
                code = mutant.code()
                for function in self._functions[mutant.file, *mutant.host]:
                    function.__code__ = code
            items = [self._items[one] for one in tests]
            for item, following in zip(items, [*items[1:], self._anchor], strict=True):
                os.write(writing, b".")
                reports = runtestprotocol(item, log=False, nextitem=following)
                if any(report.failed for report in reports):
                    os.write(writing, b"f")
                    os._exit(0)
            os.write(writing, b"p")
        finally:
            # Whatever has come: nothing of the parent's is to be done twice.
            os._exit(1)


def _functions(mutants: Iterable[Mutant]) -> dict[tuple[str, str, int], list[FunctionType]]:
    """Return the functions that *mutants* change, however they are wrapped."""
    for file in {one.file for one in mutants}:
        importlib.import_module(file.removesuffix(".py").replace("/", "."))
    found: dict[tuple[str, str, int], list[Any]] = {(one.file, *one.host): [] for one in mutants}
    paths = {str(ROOT / file): file for file, _, _ in found}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename in paths:
            code = one.__code__
            place = paths[code.co_filename], code.co_qualname, code.co_firstlineno
            if place in found:
                found[place].append(one)
    if lost := [place for place, functions in found.items() if not functions]:
        raise RuntimeError(f"not found in memory (is another {sys.prefix} imported?): {lost}")
    return found
