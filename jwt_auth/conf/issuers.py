"""``TRUSTED_ISSUERS``: whose tokens are accepted beside our own, and by which rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from jwt_auth.conf.report import Report, is_text
from jwt_auth.tokens.claims import VerifiedClaims
from jwt_auth.tokens.keys import ALGORITHMS, SECRET_LENGTHS

NAMES = ("JWKS_URL", "AUDIENCE", "ALGORITHMS", "TYPES", "REVOKED_URL", "USER")
# What everybody knows verifies nothing: no secrets.
PUBLIC_ALGORITHMS = sorted(ALGORITHMS - SECRET_LENGTHS.keys())


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """One member of ``TRUSTED_ISSUERS``, parsed.

    `user` makes a user of verified claims; with `None` the user is a `TokenUser`.
    """

    issuer: str
    jwks_url: str
    audiences: frozenset[str]
    algorithms: tuple[str, ...]
    types: frozenset[str]
    revoked_url: str | None
    user: Callable[[VerifiedClaims], Any] | None


def read_trusted_issuers(report: Report, own_issuer: str | None) -> Mapping[str, IssuerSettings]:
    """Return ``TRUSTED_ISSUERS`` by issuer; those with a problem are left out."""
    raw = report.get(
        "TRUSTED_ISSUERS",
        {},
        lambda value: isinstance(value, Mapping),
        "a dict of dicts by issuer",
    )
    found = {}
    for issuer, members in raw.items():
        if not is_text(issuer) or not isinstance(members, Mapping):
            report.error(
                "E002",
                "TRUSTED_ISSUERS has a member that is no dict, or whose key is no issuer.",
                'Write {"https://issuer.example": {"JWKS_URL": …}} for TRUSTED_ISSUERS.',
            )
            continue
        inner = report.inner(f"TRUSTED_ISSUERS[{issuer!r}]", members)
        if issuer == own_issuer:
            inner.error(
                "E015",
                "this is ISSUER itself.",
                "Tokens of our own are verified by our own keys: leave it out.",
            )
        found[issuer] = _read(inner, issuer)
    return found


def _read(report: Report, issuer: str) -> IssuerSettings:
    report.names("the dict", NAMES)
    for name in ("JWKS_URL", "AUDIENCE", "ALGORITHMS"):
        if report.raw.get(name) is None:
            report.error("E015", f"{name} is missing.", f"Give {name}: nothing is guessed.")
    if find_spec("cryptography") is None:
        report.error(
            "E007", "published keys need an extra: pip install 'django-jwt-sessions[crypto]'.", ""
        )
    audience = report.audience("AUDIENCE") or ()
    return IssuerSettings(
        issuer=issuer,
        jwks_url=_url(report, "JWKS_URL") or "",
        audiences=frozenset([audience] if isinstance(audience, str) else audience),
        algorithms=_algorithms(report),
        types=_types(report),
        revoked_url=_url(report, "REVOKED_URL"),
        user=report.callable("USER", None, is_awaited=True),
    )


def _url(report: Report, name: str) -> str | None:
    url: str | None = report.optional_text(name)
    if url is None or _is_fetchable(url):
        return url
    report.error(
        "E015",
        f"{name} is no URL that can be fetched from safely.",
        "Give an https URL without user name, password and fragment; http does where DEBUG is on.",
    )
    return None


def _is_fetchable(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    # What comes over http may come from anybody on the way (RFC 7517 section 9.1).
    schemes = {"https", "http"} if django_settings.DEBUG else {"https"}
    return (
        parts.scheme in schemes
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and not parts.fragment
        and port != 0
    )


def _algorithms(report: Report) -> tuple[str, ...]:
    value = report.get(
        "ALGORITHMS",
        None,
        lambda value: value is None or isinstance(value, list | tuple),
        "a list of algorithms",
    )
    if value is None:
        return ()
    if not value or any(one not in PUBLIC_ALGORITHMS for one in value):
        report.error(
            "E015",
            "ALGORITHMS is empty, or has a member that published keys cannot serve.",
            f"Take from {', '.join(PUBLIC_ALGORITHMS)}.",
        )
    return tuple(value)


def _types(report: Report) -> frozenset[str]:
    value = report.get(
        "TYPES",
        ["at+jwt"],
        lambda value: (
            isinstance(value, list | tuple) and len(value) > 0 and all(map(is_text, value))
        ),
        'a list of strings, as in ["at+jwt", "JWT"],',
    )
    # RFC 7515 section 4.1.9: without another slash the prefix goes without saying.
    return frozenset(value) | {f"application/{one}" for one in value if "/" not in one}
