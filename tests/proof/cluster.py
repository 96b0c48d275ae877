"""A PostgreSQL of one's own, to be stopped, started and frozen at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection, connections


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (found[-1] if found else None)
    return None if initdb is None else Path(initdb).resolve().parent


class Cluster:
    """A server on a free port, with its data in *folder*."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to be run by root.
            shutil.chown(folder, "postgres", "postgres")
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")

    def start(self) -> None:
        """Start, and wait until connections are taken."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder}/log", f"--options={options}")

    def stop(self) -> None:
        """Stop as a crash does: no transaction ends, and no client is told why."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    @contextmanager
    def commits_held(self, number: int) -> Iterator[None]:
        """Have commits be on disk but not answered, and crash when there are *number* such.

        They wait for a standby that is not there. The server is started again without.
        """
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            cursor.execute("SELECT pg_reload_conf()")
            yield
            deadline = time.monotonic() + 60
            waiting = 0
            while waiting < number and time.monotonic() < deadline:
                time.sleep(0.05)
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                waiting = cursor.fetchone()[0]
            cursor.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.stop()
        assert waiting >= number, waiting
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have no process of the server do anything: it hangs, and refuses nobody."""
        postmaster = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        stopped: list[int] = []
        try:
            # The postmaster first, so that no process is added.
            os.kill(postmaster, signal.SIGSTOP)
            stopped.append(postmaster)
            for process in _children(postmaster):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
                    stopped.append(process)
            yield
        finally:
            for process in stopped:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, f"--pgdata={self.folder}/data", *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            timeout=60,
            **self._as,
        )


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


@contextmanager
def moved_to(cluster: Cluster) -> Iterator[None]:
    """Have every thread find its database, with all tables, in the *cluster*."""
    settings = connections.settings["default"]
    before = {name: settings[name] for name in ("HOST", "PORT", "USER", "NAME")}
    connection.close()
    settings |= {
        "HOST": "127.0.0.1", "PORT": cluster.port, "USER": "postgres", "NAME": "postgres"
    }  # fmt: skip
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        settings |= before
