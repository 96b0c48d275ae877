"""Feeds the parsers by coverage: ``python -m tests.fuzzing [parser …] [-libFuzzer=option …]``.

``tox -e fuzz`` runs it with a million executions for each parser. What is found worth keeping
on the way goes to a folder of one's own, ``--found DIRECTORY``, and from there, the least that
reaches as much, by ``--keep`` into the repository. An exception ends the run; the input that
raised it is then in the working directory, and belongs into the corpus once it is mended.

Each parser is fed in a process of its own: libFuzzer ends the one that it runs in.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzzing.corpus import CORPUS, PARSERS, keep

WORDS = Path(__file__).with_name("words.txt")
RUNS = "-runs=1000000"
# Longer than the longest token, so that the limit is met as well.
LONGEST = "-max_len=10000"


def feed(parser: str, options: list[str], found: Path) -> None:
    """Run libFuzzer in this process, which it ends."""
    import atheris

    with atheris.instrument_imports(include=["jwt_auth"]):
        from tests.fuzzing.targets import TARGETS
    target = TARGETS[parser]

    def once(data: bytes) -> None:
        target(data)

    folders = [str(found), str(CORPUS / parser)]
    fixed = [f"-dict={WORDS}", LONGEST, "-timeout=10", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *fixed, *options, *folders], once)
    atheris.Fuzz()


def report(parser: str, options: list[str], found: Path) -> bool:
    """Feed *parser* in another process; say how it went, and whether it went well."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzzing", "--feed", str(found), parser, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        lines = list(process.stderr)
    seconds = time.monotonic() - began
    if process.returncode:
        print("".join(lines[-60:]))
    said = "".join(lines)
    executions = _last(r"number_of_executed_units: (\d+)", said)
    begun = re.search(r"INITED cov: (\d+) ft: (\d+)", said)
    coverage, features = _last(r"cov: (\d+)", said), _last(r"ft: (\d+)", said)
    before = begun.groups() if begun else ("?", "?")
    print(
        f"{parser}: {executions} executions in {seconds:.0f} s; "
        f"coverage {before[0]} → {coverage}, features {before[1]} → {features}, "
        f"{len(list(found.iterdir()))} inputs worth keeping; "
        + ("an exception" if process.returncode else "no exception"),
        flush=True,
    )
    return process.returncode == 0


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "?"


def main(arguments: list[str]) -> int:
    """Feed the parsers that are named, or all."""
    if arguments[:1] == ["--feed"]:
        found, parser, *options = arguments[1:]
        feed(parser, options, Path(found))
    if arguments[:1] == ["--keep"]:
        keep(Path(arguments[1]))
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed; outside Linux on x86-64 it needs Clang")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if "--found" in arguments:
            place = arguments.index("--found")
            root = Path(arguments[place + 1])
            del arguments[place : place + 2]
        options = [one for one in arguments if one.startswith("-")]
        parsers = [one for one in arguments if not one.startswith("-")] or PARSERS
        if not any(one.startswith(("-runs=", "-max_total_time=")) for one in options):
            options.append(RUNS)
        well = []
        for parser in parsers:
            found = root / parser
            found.mkdir(parents=True, exist_ok=True)
            well.append(report(parser, options, found))
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
