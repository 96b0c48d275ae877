"""The example's OpenAPI document names every call of ours, and no other."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jwt_auth import errors

DOCUMENT = Path(__file__).resolve().parents[1] / "example_project" / "openapi.json"
# As the example includes them.
INCLUDES = {
    "/auth/browser/": "jwt_auth.urls.browser",
    "/auth/": "jwt_auth.urls",
    "/.well-known/": "jwt_auth.urls.well_known",
}
METHODS = {"get", "post", "put", "patch", "delete"}


@functools.cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DOCUMENT.read_text("utf-8"))
    return found


def calls(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the calls of the document whose longest prefix is *prefix*."""
    for path, item in document()["paths"].items():
        if next((one for one in INCLUDES if path.startswith(one)), None) == prefix:
            yield from ((path, method) for method in item)


def served(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the calls that the views answer."""
    for pattern in import_module(INCLUDES[prefix]).urlpatterns:
        path = prefix + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        for method in METHODS:
            if hasattr(pattern.callback.view_class, method):
                yield path, method


@pytest.mark.parametrize("prefix", INCLUDES)
def test_every_call_is_in_the_document(prefix: str) -> None:
    assert sorted(calls(prefix)) == sorted(served(prefix))


def test_every_code_is_one_of_ours() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    ours = {one.code for one in classes if hasattr(one, "code")}
    assert codes(document()) == ours


def test_every_reference_leads_somewhere() -> None:
    found = list(references(document()))
    assert found
    for reference in found:
        place: Any = document()
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


def codes(value: Any) -> set[str]:
    """Return the values of all members ``code`` of all schemas."""
    if isinstance(value, list):
        return set().union(*map(codes, value))
    if not isinstance(value, dict):
        return set()
    code = value.get("properties", {}).get("code", {})
    own = {*code.get("enum", ()), *([code["const"]] if "const" in code else [])}
    return own.union(*map(codes, value.values()))


def references(value: Any) -> Iterator[str]:
    """Yield what is referred to."""
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        yield value["$ref"]
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            yield from references(one)
