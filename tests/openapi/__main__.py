"""Starts the example and has schemathesis try every call of its OpenAPI document.

``tox -e schemathesis`` runs it: without a credential, with a bearer token, and with the cookies
of a browser. What is answered has to be in the document, and no answer is a 5xx. Arguments
are schemathesis' own: ``tox -e schemathesis -- --max-examples 500``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_project"
CREDENTIALS = ["none", "bearer", "cookies"]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
SECONDS_TO_START = 60


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Serve a copy of the example, with keys and a database of its own; return the address."""
    copy = folder / "example_project"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("keys", "*.sqlite3"))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "manage.py", "demo", "--skip-tour", "--port", str(port)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example.settings"}
    said = (folder / "said.txt").open("w")
    process = subprocess.Popen(command, cwd=copy, env=environment, stdout=said, stderr=said)
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        said.close()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(SECONDS_TO_START * 10):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the example does not start")


def main(arguments: list[str]) -> int:
    """Run schemathesis once for each credential."""
    failed = []
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as site:
        for credential in CREDENTIALS:
            print(f"--- credential: {credential}", flush=True)
            command = ["schemathesis", "run", str(EXAMPLE / "openapi.json"), "--url", site]
            command += ["--checks", ",".join(CHECKS), "--continue-on-failure", *arguments]
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.openapi.hooks",
                "JWT_AUTH_TEST_SITE": site,
                "JWT_AUTH_TEST_CREDENTIAL": credential,
            }
            if subprocess.run(command, env=environment, cwd=name, check=False).returncode:
                failed.append(credential)
    print(f"failed: {', '.join(failed)}" if failed else "every answer is in the document")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
