"""A process that refreshes one token in several threads, at a given moment.

Reads lines ``<time> <token>`` and answers each with a line of JSON: what every thread got.
"""

from __future__ import annotations

import json
import sys
import time

import django

THREADS = 5


def say(text: str) -> None:
    """Answer whoever started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Race until the input ends."""
    django.setup()

    from tests.proof.races import Racers

    with Racers(THREADS) as racers:
        say("ready")
        for line in sys.stdin:
            moment, raw = line.split()
            results = racers.race(
                raw, lambda moment=float(moment): time.sleep(max(0.0, moment - time.time()))
            )
            say(json.dumps(results))


if __name__ == "__main__":
    main()
