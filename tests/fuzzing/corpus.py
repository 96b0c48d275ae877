"""The inputs that were worth keeping: small files, a folder for each parser.

Whatever the fuzzer finds is many times more than anybody needs. `keep` takes the fewest and
shortest that together go every way through the app that all of them go.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

CORPUS = Path(__file__).with_name("corpus")
PARSERS = ["token", "signed", "sealed", "refresh", "jwks", "revoked"]
# The longest token and one byte.
LARGEST = 8193
# What has to be gone through: the parsers, and what is demanded of them.
_WATCHED = ("jwt_auth.tokens.", "tests.fuzzing.targets")


def inputs(parser: str, root: Path = CORPUS) -> list[bytes]:
    """Return the corpus of *parser*, in an order that stays."""
    return [path.read_bytes() for path in sorted((root / parser).iterdir())]


def keep(found: Path) -> None:
    """Make the corpus anew, of itself and of what is in *found*."""
    from tests.fuzzing.targets import TARGETS

    for parser in PARSERS:
        folder = CORPUS / parser
        folder.mkdir(parents=True, exist_ok=True)
        candidates = {*inputs(parser)}
        if (found / parser).is_dir():
            candidates |= {*inputs(parser, found)}
        kept = list(_fewest(candidates, TARGETS[parser]))
        for path in folder.iterdir():
            path.unlink()
        for data in kept:
            name = hashlib.sha256(data).hexdigest()[:12]
            (folder / name).write_bytes(data)
        print(f"{parser}: kept {len(kept)} of {len(candidates)}")


def _fewest(candidates: set[bytes], target: Callable[[bytes], str]) -> Iterator[bytes]:
    """Choose greedily: whatever adds most, and of equals the shortest."""
    small = [one for one in candidates if len(one) <= LARGEST]
    small.sort(key=lambda one: (len(one), one))
    ways = {one: _ways(one, target) for one in small}
    missing = set().union(*ways.values())
    while missing:
        best = max(small, key=lambda one: len(ways[one] & missing))
        yield best
        missing -= ways[best]


def _ways(data: bytes, target: Callable[[bytes], str]) -> set[Any]:
    """Return the steps from line to line that *data* takes in the app, and the verdict."""
    steps: set[Any] = set()

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        if not str(frame.f_globals.get("__name__")).startswith(_WATCHED):
            return None
        name, before = frame.f_code.co_qualname, [0]

        def step(frame: FrameType, event: str, _: Any) -> Any:
            steps.add((name, before[0], frame.f_lineno))
            before[0] = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        verdict = target(data)
    finally:
        sys.settrace(None)
    return steps | {verdict}
