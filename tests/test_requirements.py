"""The map from each security requirement to the tests that show it is complete and true to them."""

from __future__ import annotations

import ast
import functools
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "docs" / "reference" / "requirements.toml"
NUMBER_OF_ROWS = 196
# Marks that keep a test from being run, or from being believed.
NOT_RUN = {"skip", "skipif", "xfail"}


@functools.cache
def rows() -> list[dict[str, Any]]:
    """Return the rows of the map."""
    found: list[dict[str, Any]] = tomllib.loads(MAP.read_text())["row"]
    return found


@functools.cache
def tree(file: str) -> ast.Module:
    """Return the parsed *file*, whose path begins at the root of the repository."""
    return ast.parse((ROOT / file).read_text())


def marks(nodes: list[ast.expr]) -> set[str]:
    """Return the names of the pytest marks among *nodes*, which are decorators or values."""
    called = [one.func if isinstance(one, ast.Call) else one for one in nodes]
    return {one.attr for one in called if isinstance(one, ast.Attribute)}


def marks_of_module(module: ast.Module) -> set[str]:
    """Return the names of the marks in ``pytestmark``."""
    found: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            value = node.value
            found |= marks(value.elts if isinstance(value, ast.List | ast.Tuple) else [value])
    return found


def marks_of(test: str) -> set[str] | None:
    """Return the marks of *test*, its class and its file; `None` if there is no such test."""
    file, *names = test.split("::")
    if not (ROOT / file).is_file():
        return None
    body, found = tree(file).body, marks_of_module(tree(file))
    for depth, name in enumerate(names, start=1):
        is_last = depth == len(names)
        wanted = (ast.FunctionDef, ast.AsyncFunctionDef) if is_last else (ast.ClassDef,)
        node: Any = next(
            (one for one in body if isinstance(one, wanted) and one.name == name), None
        )
        if node is None:
            return None
        found |= marks(node.decorator_list)
        body = node.body
    return found if names and names[-1].startswith("test_") else None


def every_test() -> list[str]:
    """Return the tests that the map names, as often as it does."""
    return [test for row in rows() for test in row.get("tests", [])]


def test_every_requirement_has_its_row() -> None:
    numbers = [row["number"] for row in rows()]
    assert numbers == sorted(set(numbers))
    assert set(numbers) >= set(range(1, NUMBER_OF_ROWS + 1))


def test_a_row_has_tests_or_says_why_not() -> None:
    for row in rows():
        number, told = row["number"], row.keys() - {"number", "title"}
        assert row["title"], number
        # Both, where a part of the row does not apply.
        assert told, number
        assert told <= {"tests", "does_not_apply"}, number
        assert row.get("tests", True), number
        reason = row.get("does_not_apply", "In part: all of it.")
        assert reason.endswith("."), number
        assert reason.startswith("In part: ") or "tests" not in row, number


def test_no_row_names_a_test_twice() -> None:
    for row in rows():
        tests = row.get("tests", [])
        assert len(tests) == len(set(tests)), row["number"]


def test_the_tests_are_there() -> None:
    assert marks_of("tests/test_requirements.py::test_the_tests_are_there") == set()
    assert marks_of("tests/test_requirements.py::test_no_such_test") is None
    assert [test for test in every_test() if marks_of(test) is None] == []


def test_the_tests_are_run() -> None:
    assert marks(ast.parse("@pytest.mark.skipif(x)\ndef f(): 1").body[0].decorator_list) & NOT_RUN
    assert [test for test in every_test() if (marks_of(test) or set()) & NOT_RUN] == []


def test_every_file_of_attacks_shows_something() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/attacks/test_*.py")}
    assert files - {test.partition("::")[0] for test in every_test()} == set()
