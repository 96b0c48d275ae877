"""A process that verifies one token over and over, and tells when it is refused."""

from __future__ import annotations

import sys
import time

import django


def main() -> None:
    """Verify what the first line of input says until it is refused."""
    django.setup()

    from jwt_auth import verify
    from jwt_auth.errors import SessionEnded

    for line in sys.stdin:
        raw = line.strip()
        count = 0
        try:
            while True:
                verify(raw)
                count += 1
                if count == 1:
                    sys.stdout.write("good\n")
                    sys.stdout.flush()
                time.sleep(0.002)
        except SessionEnded:
            sys.stdout.write(f"{time.time()} {count}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
