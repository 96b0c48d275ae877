"""sentry-sdk reports no token: by default none of our views, and with our scrubber none at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import private_pem

pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed")

from sentry_sdk.scrubber import DEFAULT_DENYLIST
from sentry_sdk.utils import AnnotatedValue

from jwt_auth.contrib.sentry import SUBSTITUTE, scrubber

ROOT = Path(__file__).resolve().parents[2]
REFRESH = "jwtr_" + "A" * 76
ACCESS = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
ENCRYPTED = "eyJhbGciOiJkaXIifQ..bm9uY2U.c2VhbGVk.dGFn"


@pytest.fixture(scope="module")
def reported() -> dict[str, Any]:
    """Return what the cases of ``reported.py`` have sentry-sdk report."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        # The program migrates its database, which is in memory.
        "JWT_AUTH_TEST_DATABASE": "sqlite",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.contrib.reported"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


OURS = [
    "refresh_without_claims",
    "log_out_without_database",
    "refresh_with_an_unexpected_error",
    "refresh_by_cookie_with_an_unexpected_error",
]


def tokens_in(case: dict[str, Any]) -> list[str]:
    """Return the names of the tokens that the events of *case* hold."""
    assert case["events"]
    text = json.dumps(case["events"])
    return [name for name, token in case["pair"].items() if "_token" in name and token in text]


@pytest.mark.parametrize("case", OURS)
def test_defaults_of_sentry_report_no_refresh_token_of_our_views(
    reported: dict[str, Any], case: str
) -> None:
    assert tokens_in(reported[f"defaults: {case}"]) == []


def test_traceback_of_claims_that_fail_is_reported(reported: dict[str, Any]) -> None:
    [event] = reported["scrubber: refresh_without_claims"]["events"]
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("KeyError", "'tenant'")
    assert error["stacktrace"]["frames"][-1]["function"] == "failing"
    assert event["request"]["data"]["device"] == "phone"


def test_defaults_of_sentry_report_tokens_of_a_projects_view(reported: dict[str, Any]) -> None:
    """The cases do show a token where nothing removes it."""
    assert tokens_in(reported["defaults: fail_in_a_view"]) == ["refresh_token"]


@pytest.mark.parametrize("case", [*OURS, "fail_in_a_view"])
@pytest.mark.parametrize("options", ["scrubber", "scrubber, PII"])
def test_scrubber_removes_tokens(reported: dict[str, Any], options: str, case: str) -> None:
    assert tokens_in(reported[f"{options}: {case}"]) == []


PEM = private_pem("P-256").decode()


@pytest.mark.parametrize(
    "secret",
    [REFRESH, REFRESH[:40], ACCESS, ENCRYPTED, PEM, PEM[:90], repr(PEM)],
    ids=["refresh", "cut off", "signed", "encrypted", "key", "key, cut off", "repr of a key"],
)
def test_secrets_are_removed_wherever_they_are(secret: str) -> None:
    cyclic: dict[str, Any] = {"x": secret}
    cyclic["self"] = cyclic
    event: Any = {
        "message": f"before {secret} after",
        "logentry": {"formatted": secret, "params": (secret, 7)},
        "request": {
            "headers": {"X-Other": secret},
            "query_string": f"a=1&t={secret}",
            "data": AnnotatedValue({"other": secret}, {"len": 1}),
        },
        "exception": {
            "values": [{"value": secret, "stacktrace": {"frames": [{"vars": {"t": secret}}]}}]
        },
        "breadcrumbs": {"values": deque([{"message": secret, "data": {"t": secret}}])},
        "extra": {"bytes": secret.encode(), "set": {secret}, "cyclic": cyclic},
        "tags": [("t", secret)],
        "level": "error",
        "timestamp": 7.5,
    }
    scrubber().scrub_event(event)
    shown = str(event) + str(event["request"]["data"].value)
    assert secret not in shown
    assert secret[5:30] not in shown
    assert event["message"].startswith("before ")
    assert SUBSTITUTE in event["message"]
    assert (event["level"], event["timestamp"]) == ("error", 7.5)
    assert event["logentry"]["params"][1] == 7


def test_text_that_is_not_a_token_stays() -> None:
    event: Any = {"message": "eyJ is the beginning of a header. jwtr_ is a prefix. a.b.c"}
    before = dict(event)
    scrubber().scrub_event(event)
    assert event == before


def test_names_are_added_to_those_of_the_project() -> None:
    for made in (scrubber(), scrubber(denylist=["tenant"])):
        event: Any = {"extra": {"a": [{"refresh_token": "x", "tenant": "y", "password": "z"}]}}
        made.scrub_event(event)
        shown = event["extra"]["a"][0]
        assert isinstance(shown["refresh_token"], AnnotatedValue)
        assert isinstance(shown["tenant"], AnnotatedValue) == ("tenant" in made.denylist)
        assert isinstance(shown["password"], AnnotatedValue) == ("password" in made.denylist)
    assert set(DEFAULT_DENYLIST) - {"PHPSESSID", "XSRF-TOKEN"} <= set(scrubber().denylist)


def test_options_are_those_of_sentry() -> None:
    made = scrubber(recursive=False, send_default_pii=True)
    assert not made.recursive
    assert "remote_addr" not in made.denylist
