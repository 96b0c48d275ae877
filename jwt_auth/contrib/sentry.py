"""Keep tokens out of what sentry-sdk reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber
from sentry_sdk.utils import AnnotatedValue  # type: ignore[attr-defined]

# Members of bodies, variables of this package, and the default names of the cookies.
NAMES = (
    "access_token",
    "refresh_token",
    "raw",
    "raws",
    "__Secure-refresh_token",
    "__Secure-access_token",
    "__Host-access_token",
)
SUBSTITUTE = "[Filtered]"
# sentry-sdk shows five levels of what is nested.
MAX_DEPTH = 20

# A refresh token, a JWS or JWE, and a private key as PEM, whole or cut off at the end.
_SECRETS = re.compile(
    r"jwtr_[A-Za-z0-9_-]{8,}"
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def scrubber(*, denylist: Sequence[str] = DEFAULT_DENYLIST, **options: Any) -> EventScrubber:
    """Return the value for ``event_scrubber`` of ``sentry_sdk.init()``.

    It removes tokens and private keys from everything that is reported: bodies, headers,
    cookies, variables, messages. *denylist* and *options* are those of sentry-sdk's
    own `EventScrubber`; the names of this package are added.
    """
    return _TokenScrubber(denylist=[*denylist, *NAMES], **{"recursive": True, **options})


class _TokenScrubber(EventScrubber):
    """Goes by names, as its base class does, and by the form of a token under any name."""

    def scrub_event(self, event: Any) -> None:
        for name, value in event.items():
            event[name] = _without_secrets(value, MAX_DEPTH)
        super().scrub_event(event)


def _without_secrets(value: Any, depth: int) -> Any:
    """Return a copy of *value* without tokens and keys."""
    if isinstance(value, bytes | bytearray):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return _SECRETS.sub(SUBSTITUTE, value)
    if isinstance(value, AnnotatedValue):
        return AnnotatedValue(_without_secrets(value.value, depth), value.metadata)
    if not isinstance(value, Mapping | Sequence | AbstractSet):
        return value
    if depth == 0:
        return SUBSTITUTE
    if isinstance(value, Mapping):
        return {name: _without_secrets(one, depth - 1) for name, one in value.items()}
    return [_without_secrets(one, depth - 1) for one in value]
