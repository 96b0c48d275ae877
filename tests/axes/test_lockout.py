"""django-axes works unchanged: it sees Django's request, and its records outlast our answers."""

from __future__ import annotations

from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from axes.utils import reset
from django.contrib.auth.models import User
from django.core.management import call_command

from tests.conftest import PASSWORD, JSONClient

pytestmark = pytest.mark.django_db


def test_the_checks_pass() -> None:
    call_command("check", fail_level="WARNING")


def test_a_login_is_logged(client: JSONClient, user: User) -> None:
    assert client.login().status_code == 200
    assert AccessLog.objects.get().username == "ada"
    assert AccessAttempt.objects.count() == 0


def test_failures_lock_the_account_out(client: JSONClient, user: User) -> None:
    for _ in range(2):
        assert client.login(password="wrong").json()["code"] == "invalid_credentials"
    # From its limit on the answer is that of its own middleware.
    assert client.login(password="wrong").status_code == 429
    attempt = AccessAttempt.objects.get()
    assert (attempt.username, attempt.failures_since_start) == ("ada", 3)
    assert PASSWORD not in str(vars(attempt))
    assert "wrong" not in str(vars(attempt))
    # The right password too, until the cool-off has passed or an administrator resets it.
    assert client.login().status_code == 429
    assert client.login("eve").json()["code"] == "invalid_credentials"
    assert reset(username="ada") == 1
    assert client.login().status_code == 200


def test_inside_of_atomic_requests(client: JSONClient, user: User, settings: Any) -> None:
    from django.db import connection

    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        client.login(password="wrong")
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    # Our refusal rolls nothing back.
    assert AccessAttempt.objects.get().failures_since_start == 1
    assert AccessFailureLog.objects.count() in {0, 1}
