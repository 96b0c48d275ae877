"""What a part of the benchmarks says, and how it times.

A part is a module that is run in a process of its own, ``python -m benchmarks.<part>``, with
the settings that `settings.py` reads from the environment. It tells its progress on stderr and
its figures on stdout, one JSON object a line.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import NoReturn, TypeVar

Name = TypeVar("Name")

OURS = "jwt_auth"
STATELESS = "simplejwt, stateless"
SIMPLEJWT = "simplejwt"
ALLOW_ANY = "AllowAny"
# The case of a figure that is the floor of its contender's other figures in the table.
BESIDE = "AllowAny, same server"


@dataclass(frozen=True)
class Figure:
    """One measured value: of *contender*, in the row *case* of the table *table*."""

    table: str
    case: str
    contender: str
    value: float
    unit: str

    def tell(self) -> None:
        """Hand it to whoever started the part."""
        print(json.dumps(asdict(self)), flush=True)


def cannot_measure(reason: str, remedy: str) -> NoReturn:
    """End the part without figures: a failure where everything has to be there, ``CI=true``."""
    print(json.dumps({"not_measured": reason}), flush=True)
    say(f"{reason}: {remedy}")
    sys.exit(1 if os.environ.get("CI") == "true" else 0)


def say(text: str) -> None:
    """Tell how far the part is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def is_quick() -> bool:
    """Tell whether the part is only to show that it works: ``--quick``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    return bool(parser.parse_args().quick)


def side_by_side(
    runs: Mapping[str, Callable[[int], float]], *, number: int, rounds: int
) -> dict[str, float]:
    """Return the typical seconds that one of *number* calls of each of *runs* takes.

    A run is called with a number, does its work so often, and returns the seconds that it took
    in all, without what it prepared. The rounds of all are mixed, so that whatever the machine
    does meanwhile is done to each of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            gc.collect()
            taken[name].append(run(number) / number)
    return typical(taken)


def typical(rounds: Mapping[Name, list[float]]) -> dict[Name, float]:
    """Return the median of each, without what the machine did to all of them in a round.

    *rounds* are times or rates: name → one of each round, in the same order. A machine that is
    shared is slower in one round than in another. Each value is divided by the pace of its round:
    what the middle one of all was there, as a ratio to its own median.
    """
    medians = {name: statistics.median(each) for name, each in rounds.items()}
    paces = [
        statistics.median(value / medians[name] for name, value in zip(rounds, values, strict=True))
        for values in zip(*rounds.values(), strict=True)
    ]
    return {
        name: statistics.median(value / pace for value, pace in zip(each, paces, strict=True))
        for name, each in rounds.items()
    }


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that *work* takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
