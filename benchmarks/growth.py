"""What becomes of the figures when the table grows, in PostgreSQL.

Three databases exist at once, each with a process of its own that waits for orders. The rounds
of all three are mixed. ``BENCHMARK_SIZES`` names other sizes, two at least, as ``10000,1000000``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import project
from benchmarks.figures import OURS, Figure, is_quick, say, side_by_side

SIZES, QUICK_SIZES = [10_000, 1_000_000, 10_000_000], [1000, 2000, 4000]
# How many sessions were signed out within the window of the list.
ENDED = 1000
# Of clients at once, each a process; each refreshes so many sessions, or reads so many lists.
CLIENTS = [1, 2, 4, 8]
REFRESHES, LISTS = 8000, 4000
# Refreshes of the smallest table, to see how many are heap-only.
UPDATES = 20_000

TABLE = "Growth: PostgreSQL"
RATIO = "Growth: PostgreSQL, times of the smallest"
PLANS = "Growth: PostgreSQL, statements"
BYTES = "Growth: PostgreSQL, bytes per session"
HEAP_ONLY = "Growth: PostgreSQL, heap-only updates"
SUSTAINED = "Growth: PostgreSQL, clients at once"

# The name of each call, the method that makes it, calls and rounds.
CALLS = [
    ("renewal of the list of ended sessions", "renew", 20, 15),
    ("refresh", "refresh", 300, 15),
    ("authenticate, token not seen before", "authenticate", 250, 15),
    ("authenticate, token seen before", "authenticate_again", 250, 15),
    ("authenticate and read the user's row", "touch_the_user", 100, 15),
    ("login, without the hash", "login", 100, 15),
]
WARM_UP = 50
# Calls whose statements are explained.
EXPLAINED = ["refresh", "touch_the_user", "login", "renew"]


class Database:
    """A table of so many sessions, in a process of its own, and what that one is asked."""

    def __init__(self, size: int, known: int) -> None:
        self.size = size
        self.name = f"jwt_auth_growth_{size}"
        # Read by the child, which begins anew.
        os.environ["BENCHMARK_NAME"] = self.name
        self._orders, theirs = multiprocessing.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs, size, known))
        self._process.start()
        theirs.close()

    def __str__(self) -> str:
        return f"{self.size:,} sessions"

    def order(self, name: str, *args: Any) -> None:
        """Have the method *name* of its `Work` called."""
        self._orders.send((name, args))

    def answer(self) -> Any:
        """Return what it says; whatever has failed over there, fails here."""
        answer = self._orders.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, name: str, *args: Any) -> Any:
        """Have the method *name* called, and return what it returns."""
        self.order(name, *args)
        return self.answer()

    def run(self, name: str) -> Callable[[int], float]:
        """Return what has the method *name* called with a number."""
        return lambda number: self.ask(name, number)

    def close(self) -> None:
        """Have the database taken away."""
        self._process.terminate()
        self._process.join()
        self._orders.close()


SPAWN = multiprocessing.get_context("spawn")


def _serve(orders: Connection, size: int, known: int) -> None:
    """Fill a database, do what is asked for until nobody asks any more, and take it away."""
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            project.begin()
            from benchmarks import rows
            from benchmarks.work import Work

            began = time.monotonic()
            tokens = rows.fill(size, known=known)
            rows.settle()
            work = Work(tokens)
            orders.send(time.monotonic() - began)
            while True:
                name, args = orders.recv()
                orders.send(getattr(work, name)(*args))
        except Exception as error:
            with suppress(OSError):
                orders.send(RuntimeError(f"{size} sessions: {error!r}"))
            raise
        finally:
            project.end()


@contextmanager
def databases(sizes: list[int], known: Callable[[int], int]) -> Iterator[list[Database]]:
    """Have a database of each size, one filled after the other."""
    with ExitStack() as stack:
        made = []
        for size in sizes:
            one = Database(size, known(size))
            stack.callback(one.close)
            say(f"{one}: filled in {one.answer():.0f} s")
            made.append(one)
        yield made


def measure(made: list[Database], *, quick: bool) -> None:
    """Measure each call on all of *made*, in mixed rounds."""
    for case, method, number, rounds in CALLS:
        say(case)
        number, rounds = (20, 2) if quick else (number, rounds)
        for one in made:
            one.ask(method, 5 if quick else WARM_UP)

        runs = {str(one): one.run(method) for one in made}
        seconds = side_by_side(runs, number=number, rounds=rounds)
        smallest = seconds[str(made[0])]
        for name, value in seconds.items():
            Figure(TABLE, f"{case}, {name}", OURS, value * 1e6, "µs").tell()
            Figure(RATIO, f"{case}, {name}", OURS, value / smallest, "×").tell()


def explain(made: list[Database], *, quick: bool) -> None:
    """Tell how many pages each statement touches, and what each session takes on the disk."""
    number = 3 if quick else 20
    for one in made:
        for statement, told in one.ask("plans", number, *EXPLAINED).items():
            case = f"{statement}, {one}"
            say(f"{case}: {', '.join(told['scans']) or 'no scan'}")
            Figure(PLANS, f"{case}, pages", OURS, told["pages"], "").tell()
            Figure(PLANS, f"{case}, write-ahead log", OURS, told["log"], "B").tell()
            Figure(PLANS, f"{case}, on the server", OURS, told["milliseconds"], "ms").tell()
    largest = made[-1]
    for part, size in largest.ask("sizes").items():
        Figure(BYTES, f"{part}, {largest}", OURS, size, "B").tell()


def fill_less(made: list[Database], *, quick: bool) -> None:
    """Tell what it changes that pages are not full to begin with, so that new versions fit in.

    The smallest table tells of pages that have been updated often, the next one of those that
    have not.
    """
    smallest, next_one = made[:2]
    for fillfactor in (100, 85):
        number = 500 if quick else UPDATES
        filled = f"fillfactor {fillfactor}"
        case = f"{number:,} refreshes, {filled}, {smallest}"
        smallest.ask("rewrite", fillfactor)
        smallest.ask("refresh_again", number)
        share = smallest.ask("heap_only")
        say(f"heap-only of {case}: {share:.3f}")
        Figure(HEAP_ONLY, case, OURS, share, "").tell()

        next_one.ask("rewrite", fillfactor)
        told = next_one.ask("plans", 3 if quick else 20, "refresh")["refresh: UPDATE"]
        case = f"refresh: UPDATE, {filled}, {next_one}"
        Figure(PLANS, f"{case}, pages", OURS, told["pages"], "").tell()
        Figure(PLANS, f"{case}, write-ahead log", OURS, told["log"], "B").tell()
        per_second = refreshes_per_second(next_one, 4, 100 if quick else REFRESHES)
        case = f"refresh, clients: 4, {filled}, {next_one}"
        say(f"{case}: {per_second:.0f} a second")
        Figure(SUSTAINED, case, OURS, per_second, "per second").tell()


def refreshes_per_second(one: Database, clients: int, number: int) -> float:
    """Return how many refreshes a second so many clients get done, of so many in all."""
    tokens = [one.ask("hand_over", number // clients) for _ in range(clients)]
    return _together([(one.name, each) for each in tokens])


def sustain(one: Database, *, quick: bool) -> None:
    """Tell how much a number of clients get done at once, on this machine together."""
    refreshes, lists = (100, 100) if quick else (REFRESHES, LISTS)
    clients = CLIENTS[:2] if quick else CLIENTS
    for number in clients:
        per_second = refreshes_per_second(one, number, refreshes)
        case = f"refresh, clients: {number}, {one}"
        Figure(SUSTAINED, case, OURS, per_second, "per second").tell()
        say(f"{case}: {per_second:.0f} a second")
    since, length = one.ask("since"), one.ask("listed")
    for number in clients:
        each = lists // number
        per_second = _together([(one.name, [since] * each) for _ in range(number)])
        case = f"lists of {length:,}, clients: {number}, {one}"
        Figure(SUSTAINED, case, OURS, per_second, "per second").tell()
        say(f"{case}: {per_second:.0f} a second")
    Figure(SUSTAINED, f"VACUUM of the table, {one}", OURS, one.ask("vacuum"), "s").tell()


def _together(tasks: list[tuple[str, list[Any]]]) -> float:
    """Have a process do each of *tasks*, all at once. Return how much is done in a second."""
    begin = SPAWN.Barrier(len(tasks))
    with ExitStack() as stack:
        ends = []
        for name, task in tasks:
            ours, theirs = multiprocessing.Pipe()
            process = SPAWN.Process(target=_client, args=(theirs, begin, name, task))
            process.start()
            stack.callback(process.join)
            theirs.close()
            ends.append(ours)
        return sum(len(task) for _, task in tasks) / max(end.recv() for end in ends)


def _client(end: Connection, begin: Any, name: str, task: list[Any]) -> None:
    """Trade refresh tokens, or read lists since given times. Send the seconds that it took."""
    os.environ["BENCHMARK_NAME"] = name
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    import django

    django.setup()
    from django.db import connection

    from jwt_auth import sessions
    from jwt_auth.revocation import ended_sessions

    def once(given: Any) -> object:
        if isinstance(given, str):
            return sessions.refresh(given)
        return ended_sessions("default", given)

    connection.ensure_connection()
    begin.wait()
    began = time.perf_counter()
    for given in task:
        once(given)
    end.send(time.perf_counter() - began)


def main() -> None:
    quick = is_quick()
    os.environ["BENCHMARK_DATABASE"] = "postgresql"
    # Whoever is stopped takes the databases away all the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sizes = QUICK_SIZES if quick else SIZES
    if named := os.environ.get("BENCHMARK_SIZES"):
        sizes = [int(size) for size in named.split(",")]
    ended = min(ENDED, sizes[0] // 10)
    # Those that measure() refreshes, and some more for explain().
    refreshed = WARM_UP + sum((n + 1) * rounds for _, name, n, rounds in CALLS if name == "refresh")

    def known(size: int) -> int:
        clients = (size == sizes[-1]) * len(CLIENTS) + (size == sizes[1]) * 2
        return min(size // 5 * 4, ended + refreshed + 200 + clients * REFRESHES)

    say(f"growth: {', '.join(f'{size:,}' for size in sizes)} sessions")
    with databases(sizes, known) as made:
        for one in made:
            one.ask("end", ended)
        measure(made, quick=quick)
        case = f"refreshes of packed pages, each met for the first time, {made[-1]}"
        Figure(HEAP_ONLY, case, OURS, made[-1].ask("heap_only"), "").tell()
        explain(made, quick=quick)
        sustain(made[-1], quick=quick)
        fill_less(made, quick=quick)


if __name__ == "__main__":
    main()
