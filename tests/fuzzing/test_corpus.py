"""The fuzzers' corpus through the fuzzers' targets, without a fuzzer: what was mended stays so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwt_auth import tokens
from tests.fuzzing.corpus import LARGEST, PARSERS, inputs
from tests.fuzzing.targets import ACCEPTED, TARGETS

REFUSALS = {"RefreshNotValid", "SessionEnded", "TokenExpired", "TokenNotValid"}
# Said while documents are fetched, and of whose token it is: see tests/remote.
ELSEWHERE = {
    "an alg that is not this issuer's",
    "kid is no name",
    "its key could not be fetched",
}


def reached(parser: str) -> set[str]:
    """Return the verdicts on the whole corpus of *parser*."""
    return {TARGETS[parser](data) for data in inputs(parser)}


def test_each_parser_has_a_target_and_a_corpus_of_small_files() -> None:
    assert list(TARGETS) == PARSERS
    for parser in PARSERS:
        sizes = [len(data) for data in inputs(parser)]
        assert sizes
        assert max(sizes) <= LARGEST


@pytest.mark.parametrize("parser", PARSERS)
def test_the_corpus_is_accepted_or_refused_and_raises_nothing_else(parser: str) -> None:
    verdicts = reached(parser)
    # It gets past every check, or the fuzzer would begin in front of one.
    assert ACCEPTED in verdicts
    assert len(verdicts) > 3


def refusals() -> Iterator[str]:
    """Return every reason to refuse that is written in `jwt_auth.tokens`, as a pattern."""
    for path in Path(tokens.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            raised = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(raised, ast.Call) and getattr(raised.func, "id", "") in REFUSALS:
                (reason,) = raised.args
                parts = reason.values if isinstance(reason, ast.JoinedStr) else [reason]
                yield "".join(
                    re.escape(part.value) if isinstance(part, ast.Constant) else ".+"
                    for part in parts
                )


def test_the_corpus_meets_every_refusal_of_the_parsers() -> None:
    verdicts = {one for parser in PARSERS for one in reached(parser)}
    patterns = set(refusals()) - {re.escape(one) for one in ELSEWHERE}
    assert len(patterns) > 30
    met = {one for one in patterns if any(re.fullmatch(one, verdict) for verdict in verdicts)}
    assert patterns - met == set()
