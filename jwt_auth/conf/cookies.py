"""``COOKIES``: the names and attributes of the cookies that browsers get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jwt_auth.conf.report import Report

NAMES = ("REFRESH", "ACCESS", "SAMESITE", "DOMAIN")
SAMESITE = ("Lax", "Strict", "None")

# RFC 6265 section 4.1.1: a cookie's name is a token.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_DOMAIN = re.compile(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class CookieSettings:
    """``COOKIES``, parsed. Without `access` the access token stays in the body.

    Every cookie is ``Secure`` and ``HttpOnly``.
    """

    refresh: str
    access: str | None
    samesite: str
    domain: str | None


def read_cookies(report: Report) -> CookieSettings | None:
    """Return ``COOKIES``; `None` if they are off."""
    raw = report.get(
        "COOKIES",
        None,
        lambda value: value is None or isinstance(value, Mapping),
        "a dict, or None",
    )
    if raw is None:
        return None
    inner = report.inner("COOKIES", raw)
    inner.names("the dict", NAMES)
    samesite = inner.get("SAMESITE", "Lax", lambda value: isinstance(value, str), "a string")
    if samesite not in SAMESITE:
        one_of = ", ".join(map(repr, SAMESITE))
        inner.error("E017", "SAMESITE is no such attribute.", f"It is one of {one_of}.")
    domain = inner.optional_text("DOMAIN")
    if domain is not None and _DOMAIN.fullmatch(domain) is None:
        inner.error("E017", "DOMAIN is no domain.", 'Write it as "example.com", or leave it out.')
    refresh = _name(inner, "REFRESH", "__Secure-refresh_token", ("__Secure-",))
    # RFC 6265bis section 4.1.3: a name with __Host- has no Domain and the path "/", and
    # no other host can set it.
    prefixes = ("__Host-", "__Secure-") if domain is None else ("__Secure-",)
    access = None
    if raw.get("ACCESS") is not None:
        why = "It begins" if domain is None else "With DOMAIN set, it begins"
        access = _name(inner, "ACCESS", f"{prefixes[0]}access_token", prefixes, why)
    if access == refresh:
        inner.error("E017", "ACCESS and REFRESH are one name.", "Give each cookie its own.")
    return CookieSettings(refresh, access, samesite, domain)


def _name(
    report: Report, name: str, default: str, prefixes: tuple[str, ...], why: str = "It begins"
) -> str:
    value: Any = report.raw.get(name, default)
    if (
        isinstance(value, str)
        and _NAME.fullmatch(value)
        and value.startswith(prefixes)
        # By this word Django masks the cookie on its error pages.
        and "token" in value.lower()
    ):
        return value
    report.error(
        "E017",
        f"{name} is no name for such a cookie.",
        f"{why} with {' or '.join(prefixes)} and has the word token in it, "
        f'as "{prefixes[0]}{name.lower()}_token".',
    )
    return default
