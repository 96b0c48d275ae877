"""Takes out each refusal below the skins in turn, and shows that a test fails.

    python -m tests.mutants            # or: tox -e mutants
    python -m tests.mutants PATTERN    # only those whose name contains it

What a refusal is, and what is left without it, is told in ``refusals.py``. The tests run once
with coverage, which says which of them reach which line. Then each mutant meets all tests that
reach its line, the quick ones first, up to the first that fails; ``runner.py`` says how. A test
counts only if it fails by itself as well, and passes without the mutant. Nothing is ever
written into the tree.

A mutant that no test kills survives. ``survivors.toml`` names those that may, with the reason;
the run fails when another one does, and when one of these is killed or is there no more.
With ``--measured DIRECTORY`` the measurement is kept there, or taken from there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from coverage import CoverageData

from tests.mutants.refusals import FILES, ROOT, Line, Mutant, find
from tests.mutants.runner import CRASHED, DURATIONS, JOBS, OVERDUE, PASSED, RESULTS

SURVIVORS = Path(__file__).with_name("survivors.toml")
# Settings, and the tests that run under them. The other tests and settings of tox.ini reach
# nothing below the skins that these do not.
RUNS = {
    "tests.settings": "tests",
    "tests.settings_verifier": "tests/verifier",
}
# Of two tests that take as long, these are likelier to notice.
FIRST = ("tests/attacks/", "tests/tokens/")

Killers = dict[str, tuple[str, str]]


def main() -> int:
    """Try all mutants, print what became of them, and return the status of the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--measured", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    mutants = [one for one in find() if arguments.pattern in one.name]
    killers: Killers = {}
    reached: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for settings, tests in RUNS.items():
            kept = folder if arguments.measured is None else arguments.measured
            reach = Reach(kept / settings, settings, tests)
            jobs = {one.name: reach.tests(one) for one in mutants if one.name not in killers}
            reached.update({name: len(tests) for name, tests in jobs.items()})
            killers |= try_mutants(jobs, folder / settings, settings, tests)
    return report(mutants, killers, reached, time.monotonic() - began)


class Reach:
    """Which tests reach which lines, measured once by running them all."""

    def __init__(self, folder: Path, settings: str, tests: str) -> None:
        data, durations = folder / "coverage", folder / "durations.json"
        if not durations.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # Contexts are known to this way of measuring alone.
            environment = {
                "COVERAGE_FILE": str(data),
                "COVERAGE_CORE": "ctrace",
                DURATIONS: str(durations),
            }
            options = [
                "--cov=jwt_auth",
                "--cov-context=test",
                "--cov-report=",
                "--cov-fail-under=0",
            ]
            if run_pytest(settings, tests, *options, environment=environment) != 0:
                durations.unlink(missing_ok=True)
                sys.exit("The tests fail without a mutant.")
        self._durations: dict[str, float] = json.loads(durations.read_text(encoding="utf-8"))
        coverage = CoverageData(str(data))
        coverage.read()
        self._by_line: dict[Line, set[str]] = {}
        for file in FILES:
            for line, contexts in coverage.contexts_by_lineno(str(ROOT / file)).items():
                # "file::test|call", and nothing for what ran before the first test.
                found = {one.rpartition("|")[0] for one in contexts}
                self._by_line[file, line] = found & self._durations.keys()

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that can tell the difference, the likeliest and quickest first."""
        sets = [
            set().union(*(self._by_line.get(one, ()) for one in lines)) for lines in mutant.lines
        ]
        return sorted(set.intersection(*sets), key=self._rank)

    def _rank(self, test: str) -> tuple[float, bool, str]:
        # In steps: no two runs take equally long, and the order is to be the same.
        return (round(self._durations[test], 1), not test.startswith(FIRST), test)


def try_mutants(jobs: dict[str, list[str]], folder: Path, settings: str, tests: str) -> Killers:
    """Return those of *jobs* that are killed: by what, and in which test."""
    jobs = {name: tests for name, tests in jobs.items() if tests}
    if not jobs:
        return {}
    folder.mkdir(exist_ok=True)
    listed, results = folder / "jobs.json", folder / "results.jsonl"
    listed.write_text(json.dumps(jobs), encoding="utf-8")
    environment = {
        JOBS: str(listed),
        RESULTS: str(results),
        # What hypothesis finds in a mutant is no example for others.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    options = ["--capture=no", f"--basetemp={folder / 'files'}", "--hypothesis-seed=0"]
    # Nobody reads why they fail, and to tell it takes long for what was sent to every door.
    options.append("--assert=plain")
    if run_pytest(settings, tests, *options, environment=environment) != 0:
        sys.exit("The mutants could not be tried.")
    lines = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    outcomes = {name: (word, test) for name, word, test in lines}
    if outcomes.keys() != jobs.keys():
        sys.exit("Some mutants were not tried.")
    return {name: outcome for name, outcome in outcomes.items() if outcome[0] != PASSED}


def run_pytest(settings: str, tests: str, *options: str, environment: dict[str, str]) -> int:
    """Run pytest with our plugin in a process of its own, and return its status."""
    command = [sys.executable, "-m", "pytest", "-q", f"--ds={settings}"]
    command += ["-p", "tests.mutants.runner", "-p", "no:randomly", "-p", "no:cacheprovider"]
    whole = {**os.environ, **environment}
    return subprocess.run([*command, *options, tests], cwd=ROOT, env=whole, check=False).returncode


def report(mutants: list[Mutant], killers: Killers, reached: Counter[str], seconds: float) -> int:
    """Print what became of *mutants*. Return 1 unless the survivors are those of the list."""
    reasons = read_reasons()
    survivors = [one.name for one in mutants if one.name not in killers]
    for name in survivors:
        met = f"met {reached[name]} tests" if reached[name] else "is reached by no test"
        print(f"survived: {name}\n    {met}; {reasons.get(name, 'NOT LISTED')}")
    words = Counter(word for word, _ in killers.values())
    for word in (OVERDUE, CRASHED):
        for name in (one.name for one in mutants if killers.get(one.name, ("",))[0] == word):
            print(f"{word}: {name}\n    in {killers[name][1]}")
    problems = [f"not listed: {name}" for name in survivors if name not in reasons]
    known = {one.name for one in find()}
    problems += [f"listed, but there is none: {name}" for name in reasons if name not in known]
    problems += [f"listed, but killed: {name}" for name in reasons if name in killers]
    for problem in problems:
        print(problem)
    print(
        f"killed {len(killers)} of {len(mutants)} ({words[OVERDUE]} by a time-out, "
        f"{words[CRASHED]} by a crash), survived {len(survivors)}, {seconds:.0f} s"
    )
    return 1 if problems else 0


def read_reasons() -> dict[str, str]:
    """Return why each listed mutant may survive, by its name."""
    listed: list[dict[str, Any]] = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]
    reasons = {}
    for one in listed:
        if not one["reason"].strip():
            sys.exit("A survivor is listed without a reason.")
        name = f"{one['file']} {one['function']}: {' '.join(one['refusal'].split())}"
        reasons[name] = " ".join(one["reason"].split())
    return reasons


if __name__ == "__main__":
    sys.exit(main())
