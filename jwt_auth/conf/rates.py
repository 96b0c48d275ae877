"""``THROTTLE_RATES``: how many tries there are, and within how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from jwt_auth.conf.report import Report

DEFAULTS = {
    "login": "10/min",
    "login_account": "100/min",
    "login_address": "100/min",
    "refresh": "60/min",
}
# DRF takes any word for its first letter: "10/month" would be ten a minute.
_RATE = re.compile(r"([0-9]{1,9})/(?:(s|sec|second)|(m|min|minute)|(h|hour)|(d|day))s?", re.ASCII)
_SECONDS = {2: 1, 3: 60, 4: 3600, 5: 86_400}


class Rate(NamedTuple):
    """At most `tries` within `seconds`."""

    tries: int
    seconds: int


def read_rates(report: Report) -> Mapping[str, Rate]:
    """Return ``THROTTLE_RATES`` merged with its defaults; what is off is missing."""
    raw = report.get(
        "THROTTLE_RATES",
        {},
        lambda value: value is None or isinstance(value, Mapping),
        'a dict of rates as "10/min", or None',
    )
    if raw is None:
        return {}
    inner = report.inner("THROTTLE_RATES", raw)
    inner.names("the dict", tuple(DEFAULTS))
    rates = {}
    for name, default in DEFAULTS.items():
        text = raw.get(name, default)
        if text is None:
            continue
        match = _RATE.fullmatch(text) if isinstance(text, str) else None
        if match is None or int(match[1]) == 0:
            inner.error(
                "E016",
                f"{name} is no rate.",
                'Write a number above 0, a slash and s, min, hour or day, as in "10/min"; '
                "None turns it off.",
            )
            continue
        rates[name] = Rate(int(match[1]), _SECONDS[match.lastindex or 2])
    return rates
