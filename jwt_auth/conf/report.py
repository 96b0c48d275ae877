"""What is wrong with the settings, collected while they are read key by key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from inspect import isasyncgenfunction
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.utils.module_loading import import_string

# Beyond this a duration is a mistake, and `now` plus it may be no datetime.
LONGEST_DURATION = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the settings. `id` ends in E… (error) or W… (warning).

    With `deploy` it is wrong in production alone: ``check --deploy`` tells.
    """

    id: str
    message: str
    hint: str
    deploy: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it is more than a warning."""
        return self.id.startswith("jwt_auth.E")

    @property
    def is_fatal(self) -> bool:
        """Whether the app cannot work like this."""
        return self.is_error and not self.deploy


class Report:
    """Reads the members of a dict and collects what is wrong with them.

    A value that is wrong is replaced by its default, so that every problem shows at
    once. *within* is what messages call the dict, if it is not ``JWT_AUTH`` itself.
    """

    def __init__(self, raw: Mapping[str, Any], problems: list[Problem], within: str = "") -> None:
        self.raw = raw
        self.problems = problems
        self._within = within

    def inner(self, name: str, raw: Mapping[str, Any]) -> Report:
        """Return the report on the dict *raw*, which is the value of *name*."""
        return Report(raw, self.problems, f"{name}: ")

    def names(self, what: str, known: Sequence[str], without: Collection[Any] = ()) -> None:
        """Note every key that nobody knows, with the nearest name that *known* has."""
        for name in self.raw:
            if name in known or name in without:
                continue
            if close := difflib.get_close_matches(str(name), known, n=1):
                hint = f"Did you mean {close[0]}?"
            else:
                hint = f"The keys are {', '.join(known)}."
            self.error("E001", f"{what} has an unknown key {str(name)[:100]!r}.", hint)

    def get(self, name: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        """Return the member *name*; its *default*, and a problem, unless it *fits*."""
        value = self.raw.get(name, default)
        if fits(value):
            return value
        empty = ", and empty" if value in ("", (), [], {}) else ""
        self.error(
            "E002",
            f"{name} is of type {type(value).__name__}{empty}.",
            f"Give {expected} for {name}.",
        )
        return default

    def optional_text(self, name: str) -> Any:
        """Return a non-empty string, or `None`."""
        return self.get(
            name,
            None,
            lambda value: value is None or is_text(value),
            "a non-empty string, or None",
        )

    def audience(self, name: str) -> str | tuple[str, ...] | None:
        """Return a string, several, or `None`."""

        def fits(value: Any) -> bool:
            if value is None or isinstance(value, str):
                return value is None or is_text(value)
            return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_text, value))

        value = self.get(name, None, fits, "a string, a list of strings, or None")
        return value if value is None or isinstance(value, str) else tuple(value)

    def duration(
        self,
        name: str,
        default: timedelta,
        *,
        least: timedelta = timedelta(0),
        most: timedelta = LONGEST_DURATION,
    ) -> timedelta:
        """Return a duration from *least* to *most*. A plain 0 is one, where it is allowed."""
        value = self.raw.get(name, default)
        if type(value) is int and value == 0 and least == timedelta(0):
            value = timedelta(0)
        if not isinstance(value, timedelta):
            self.error(
                "E002",
                f"{name} is of type {type(value).__name__}.",
                f"Give a datetime.timedelta for {name}.",
            )
            return default
        if not least <= value <= most:
            self.error(
                "E003", f"{name} is {value}.", f"{name} is at least {least} and at most {most}."
            )
            return default
        return value

    def optional_duration(
        self, name: str, default: timedelta, *, least: timedelta = timedelta(0)
    ) -> timedelta | None:
        """Return a duration, or `None`."""
        if self.raw.get(name, default) is None:
            return None
        return self.duration(name, default, least=least)

    def callable(self, name: str, default: str | None, *, is_awaited: bool = False) -> Any:
        """Return the function whose dotted path the member is, or `None`.

        With *is_awaited* it may be a coroutine function.
        """
        path = self.get(
            name,
            default,
            lambda value: value is None or isinstance(value, str),
            "a dotted path, or None",
        )
        if path is None:
            return None
        try:
            found = import_string(path)
        except Exception as error:  # noqa: BLE001
            # Whatever a module of the project raises while it is imported.
            self.error("E008", f"{name}: {error}", "Give the dotted path of a function.")
            return None
        if not callable(found):
            self.error(
                "E008", f"{name}: {path} cannot be called.", "Give the dotted path of a function."
            )
            return None
        if not is_awaited and _is_asynchronous(found):
            self.error(
                "E008",
                f"{name}: {path} is asynchronous, and its result would never be awaited.",
                "Give the dotted path of a plain function, such as "
                "asgiref.sync.async_to_sync() returns.",
            )
            return None
        return found

    def error(self, number: str, message: str, hint: str, *, deploy: bool = False) -> None:
        """Note an error, which with *deploy* is one in production alone."""
        problem = Problem(f"jwt_auth.{number}", self._within + message, hint, deploy=deploy)
        # Of what several settings have in common it is enough to hear once.
        if problem not in self.problems:
            self.problems.append(problem)

    warning = error


def _is_asynchronous(function: Any) -> bool:
    # A class is called to make an instance, whatever a call of the instance does.
    call = None if isinstance(function, type) else getattr(function, "__call__", None)  # noqa: B004
    return any(iscoroutinefunction(one) or isasyncgenfunction(one) for one in (function, call))


def is_text(value: Any) -> bool:
    """Tell whether *value* is a non-empty string that a token can hold."""
    if not isinstance(value, str):
        return False
    # A lone surrogate is no text: it has no UTF-8. A claim with NUL is refused.
    return (
        value != ""
        and "\x00" not in value
        and value == value.encode("utf-8", "ignore").decode("utf-8")
    )
