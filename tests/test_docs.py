"""The documentation says what the code has, no more and no less."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.dispatch import Signal
from django.test import override_settings

import jwt_auth
from jwt_auth import conf, decorators, errors, permissions, sessions, signals, urls, views
from jwt_auth.conf import cookies, issuers
from jwt_auth.tokens.access import RESERVED
from jwt_auth.urls import browser as browser_urls

PACKAGE = Path(jwt_auth.__file__).parent
ROOT = PACKAGE.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

# Called by the receivers alone, and no part of the public API.
FOR_RECEIVERS = {"end_refused", "note_rehash", "forget_user", "end_of_nobody"}
# Called by the views alone.
FOR_VIEWS = {"newest", "limited_refresh"}


def rows(page: str, table: str) -> list[list[str]]:
    """Return the rows of the list-table that is called *table*, without its header."""
    text = (DOCS / page).read_text("utf-8")
    _, _, after = text.partition(f"\n:name: {table}\n\n")
    assert after, f"{page} has no table {table}"
    body = "\n" + after.partition("\n:::")[0]
    # A row begins with "* - ", its further cells with "  - ".
    cells = [re.split(r"\n  - ", row) for row in re.split(r"\n\* - ", body)[2:]]
    return [[" ".join(cell.split()) for cell in row] for row in cells]


def code(cell: str) -> list[str]:
    """Return what stands in backquotes in *cell*."""
    return re.findall(r"`([^`]+)`", cell)


def names(page: str, table: str) -> list[str]:
    """Return the names in the first column, without parameters."""
    return [re.match(r"\w+", code(row[0])[0])[0] for row in rows(page, table)]  # type: ignore[index]


def value(literal: str) -> Any:
    """Return the value of a Python literal or a `timedelta(…)` in the documentation."""
    return eval(literal, {"__builtins__": {}, "timedelta": timedelta})  # noqa: S307


def functions(module: Any) -> set[str]:
    """Return the names of the public functions and classes that *module* defines."""
    return {
        name
        for name, one in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(one) or inspect.isclass(one))
        and one.__module__ == module.__name__
    }


def subclasses(cls: type) -> set[type]:
    """Return *cls*'s subclasses, and theirs, as far as the package defines them."""
    found = {one for one in cls.__subclasses__() if one.__module__.startswith("jwt_auth.")}
    return found.union(*map(subclasses, found))


def sources() -> list[Path]:
    """Return the modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def test_the_settings_are_listed() -> None:
    listed = names("reference/settings.md", "settings")
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(conf.NAMES)


def test_the_settings_of_an_issuer_are_listed() -> None:
    assert tuple(names("reference/settings.md", "issuers")) == issuers.NAMES


def test_the_settings_of_cookies_are_listed() -> None:
    assert tuple(names("reference/settings.md", "cookie-settings")) == cookies.NAMES
    with override_settings(JWT_AUTH={"COOKIES": {}}):
        settings = conf.load_settings().cookies
    assert settings is not None
    for name, default in (
        (code(row[0])[0], value(code(row[1])[0]))
        for row in rows("reference/settings.md", "cookie-settings")
    ):
        assert getattr(settings, name.lower()) == default


def test_the_calls_for_browsers_are_listed() -> None:
    listed = {
        (*code(row[0])[0].split(), code(row[1])[0])
        for row in rows("reference/http.md", "browser-calls")
    }
    assert listed == {
        (method.upper(), str(one.pattern).replace("str:", ""), one.name)
        for one in browser_urls.urlpatterns
        for method in ("get", "post", "put", "patch", "delete")
        if hasattr(one.callback.cls, method)  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("row", rows("reference/settings.md", "settings"), ids=lambda row: row[0])
def test_a_stated_default_is_the_default(row: list[str]) -> None:
    name, default = code(row[0])[0], value(code(row[1])[0])
    assert settings_with({name: default}) == settings_with({})


def settings_with(jwt_auth: dict[str, Any]) -> dict[str, Any]:
    """Return what `conf` makes of *jwt_auth*, comparable."""
    with override_settings(JWT_AUTH=jwt_auth):
        settings = conf.load_settings()
    found = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)}
    ring = found.pop("ring")
    return {**found, "signs": ring.signing.kid, "verify": list(ring._by_kid)}


def test_the_error_codes_are_listed() -> None:
    listed = {
        code(row[0])[0]: (code(row[1])[0], int(row[2]), "".join(code(row[3])))
        for row in rows("reference/errors.md", "codes")
    }
    classes: set[Any] = {*subclasses(errors.Rejected), errors.Unavailable}
    assert len(rows("reference/errors.md", "codes")) == len(classes)
    assert listed == {
        cls.code: (cls.__name__, cls.status, f'error="{error}"' if error else "")
        for cls in classes
        for error in [getattr(cls, "error", "")]
    }


def test_the_checks_are_listed() -> None:
    found = set()
    for path in sources():
        for literal in re.findall(r'"(?:jwt_auth\.)?([EW]\d{3})"', path.read_text("utf-8")):
            found.add(f"jwt_auth.{literal}")
    listed = [code(row[0])[0] for row in rows("reference/checks.md", "checks")]
    assert listed == sorted(found)


def test_the_urls_are_listed() -> None:
    listed = {
        (re.sub(r"<id>", "<str:id>", path), name)
        for call, name in (
            (code(row[0])[0], code(row[1])[0]) for row in rows("reference/http.md", "calls")
        )
        for path in [call.split()[1]]
    }
    assert listed == {(str(one.pattern), one.name) for one in urls.urlpatterns}


def test_every_method_of_a_url_is_listed() -> None:
    listed = {
        tuple(reversed(code(row[0])[0].split())) for row in rows("reference/http.md", "calls")
    }
    assert listed == {
        (str(one.pattern).replace("str:", ""), method.upper())
        for one in urls.urlpatterns
        for method in ("get", "post", "put", "patch", "delete")
        if hasattr(one.callback.cls, method)  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize(
    ("table", "public"),
    [
        ("top", set(jwt_auth.__all__)),
        ("permissions", functions(permissions)),
        ("decorators", functions(decorators)),
        (
            "sessions",
            functions(sessions) - FOR_RECEIVERS - FOR_VIEWS
            | {"astart", "arefresh", "aend", "aend_all"},
        ),
        ("views", functions(views)),
        ("signals", {name for name, one in vars(signals).items() if isinstance(one, Signal)}),
        ("reserved", set(RESERVED)),
        (
            "reasons",
            {
                getattr(sessions, name)
                for name in (
                    "LOGOUT",
                    "LOGOUT_ALL",
                    "REUSED",
                    "TOO_MANY",
                    "ADMINISTRATION",
                    "USER_INACTIVE",
                    "USER_DELETED",
                    "PASSWORD_CHANGED",
                )
            },
        ),
    ],
)
def test_the_public_names_are_listed(table: str, public: set[str]) -> None:
    listed = names("reference/python.md", table)
    assert len(set(listed)) == len(listed)
    assert set(listed) == public


@pytest.mark.parametrize(
    "cell", [row[0] for row in rows("reference/python.md", "sessions") if "->" in row[0]]
)
def test_a_stated_signature_is_the_signature(cell: str) -> None:
    stated = code(cell)[0]
    name = stated.partition("(")[0]
    tree = ast.parse(f"def {stated}: ...")
    assert isinstance(tree.body[0], ast.FunctionDef)
    arguments = tree.body[0].args
    real = inspect.signature(getattr(sessions, name))
    told = [one.arg for one in (*arguments.args, *arguments.kwonlyargs)]
    assert told == list(real.parameters)
    defaults = [
        *(value(ast.unparse(one)) for one in arguments.defaults),
        *(value(ast.unparse(one)) for one in arguments.kw_defaults if one is not None),
    ]
    assert defaults == [
        one.default
        for one in real.parameters.values()
        if one.default is not inspect.Parameter.empty
    ]
    keyword_only = [one.arg for one in arguments.kwonlyargs]
    assert keyword_only == [
        name for name, one in real.parameters.items() if one.kind is one.KEYWORD_ONLY
    ]


def stops() -> list[str]:
    """Return every `file:name` of the walks."""
    text = (DOCS / "explanation/walks.md").read_text("utf-8")
    return re.findall(r"`([\w/]+\.py:[\w.]+)`", text)


@pytest.mark.parametrize("stop", stops())
def test_a_stop_of_a_walk_exists(stop: str) -> None:
    path, _, dotted = stop.partition(":")
    node: Any = ast.parse((ROOT / path).read_text("utf-8"))
    for name in dotted.split("."):
        here = [one for one in node.body if getattr(one, "name", None) == name]
        assert here, f"{path} has no {dotted}"
        node = here[0]


def test_a_walk_has_at_most_eight_stops() -> None:
    text = (DOCS / "explanation/walks.md").read_text("utf-8")
    walks = text.split("\n## ")[1:]
    assert [walk.partition("\n")[0] for walk in walks] == ["Login", "Request", "Refresh", "Logout"]
    for walk in walks:
        assert 1 < len(re.findall(r"^\d+\. `jwt_auth/", walk, re.MULTILINE)) <= 8


def imported(name: str) -> Any:
    """Import a module; skip the test if it is an adapter whose package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith("jwt_auth.contrib."):
            raise
        pytest.skip(f"{error.name} is not installed")


def blocks() -> list[Any]:
    """Return every block of Python in the documentation."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for number, match in enumerate(
            re.finditer(r"^( *)```python\n(.*?)^ *```", text, re.M | re.S)
        ):
            source = inspect.cleandoc(match[2])
            found.append(pytest.param(source, id=f"{page.relative_to(DOCS)}-{number}"))
    return found


@pytest.mark.parametrize("source", blocks())
def test_python_in_the_pages_is_python_and_imports_what_there_is(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("jwt_auth"):
            module = imported(str(node.module))
            for one in node.names:
                assert hasattr(module, one.name), f"{node.module} has no {one.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_dotted_names_in_the_pages_exist(page: Path) -> None:
    for dotted in re.findall(r"`(jwt_auth\.[\w.]+)", page.read_text("utf-8")):
        if re.fullmatch(r"jwt_auth\.[EW]\d{3}", dotted) or dotted == "jwt_auth.security":
            continue
        found: Any = jwt_auth
        path = "jwt_auth"
        for name in dotted.split(".")[1:]:
            path = f"{path}.{name}"
            found = getattr(found, name, None) or imported(path)
