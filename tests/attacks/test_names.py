"""Row 209: a user name that no row can hold is answered like a wrong password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.db import DataError, OperationalError, connection
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext

from jwt_auth.models import LoginSession
from tests.attacks.limits import Limits
from tests.child_users.models import Guest
from tests.conftest import PASSWORD, Clock, JSONClient
from tests.test_login import Listener

REFUSAL = {
    "detail": "No active account matches these credentials.",
    "code": "invalid_credentials",
}
NAMES = [
    "zqzq",
    "1e999999",
    "9" * 254,
    "nan",
    "inf",
    "sNaN",
    "١٢",
    "0.5",
    "2027-13-45",
    "9999-12-31T23:59:59-23:00",
    "{12345678-1234-5678-1234-56781234567}",
    "'\"%s",
    "1.2.3",
    "::ffff:999.1.1.1",
]
FIELDS = [
    "uuid",
    "integer",
    "decimal",
    "fraction",
    "date",
    "moment",
    "duration",
    "address",
]


def refused(client: JSONClient, name: Any, hashes: list[str], caplog: Any) -> Any:
    """Demand that a login as *name* is refused as any other is; return the signal's arguments."""
    hashes.clear()
    caplog.clear()
    with Listener(user_login_failed) as failed, Limits():
        answer = client.login(name)
    assert (answer.status_code, answer.json()) == (401, REFUSAL)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
    assert hashes == [PASSWORD]
    # The record of Django's own about an answer of 401.
    assert [one.name for one in caplog.records] == ["django.request"]
    assert not LoginSession.objects.exists()
    [call] = failed.calls
    assert PASSWORD not in str(call["credentials"])
    return call


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("field", FIELDS)
def test_name_that_a_field_cannot_hold_is_refused(
    client: JSONClient,
    settings: Any,
    hashes: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
) -> None:
    settings.AUTH_USER_MODEL = "child_users.Guest"
    monkeypatch.setattr(Guest, "USERNAME_FIELD", field)
    for name in NAMES:
        refused(client, name, hashes, caplog)


@pytest.fixture
def by_number(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """Return a user who signs in by number, as all users do."""
    monkeypatch.setattr(User, "USERNAME_FIELD", "id")
    return user


def test_impossible_name_is_counted(
    client: JSONClient,
    by_number: User,
    clock: Clock,
    hashes: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert client.login(str(by_number.pk)).status_code == 200
    LoginSession.objects.all().delete()
    for _ in range(100):
        refused(client, "zqzq", hashes, caplog)
    assert client.login("zqzq").status_code == 429
    assert client.login(str(by_number.pk)).status_code == 200


class Broken(BaseBackend):
    """A backend of the project's own, with a bug."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        """Fail."""
        raise ValueError("a bug")


def test_bug_of_a_backend_is_not_a_wrong_password(
    client: JSONClient, by_number: User, settings: Any, hashes: list[str]
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Broken"]
    hashes.clear()
    with pytest.raises(ValueError, match="a bug"):
        client.login("7")
    assert hashes == []


class BySignature(BaseBackend):
    """A backend that knows names which the user model has no room for."""

    def authenticate(self, request: Any, **credentials: Any) -> Any:
        """Return the one user for one such name."""
        return User.objects.first() if credentials.get("id") == "a@example.com" else None


def test_backend_may_know_a_name_that_the_field_cannot_hold(
    client: JSONClient, by_number: User, settings: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.BySignature"]
    assert client.login("a@example.com").status_code == 200


def illegal_mix(name: str) -> Exception:
    """Return what MariaDB says of a name that the character set of the column lacks."""
    return OperationalError(1267, "Illegal mix of collations")


def unencodable(name: str) -> Exception:
    """Return what a driver says of a name that the character set of the connection lacks."""
    return UnicodeEncodeError("latin-1", name, 0, 1, "ordinal not in range(256)")


def untranslatable(name: str) -> Exception:
    """Return what PostgreSQL says of a name that the encoding of the database lacks."""
    return DataError(f'character of "{name}" has no equivalent in encoding "LATIN1"')


@pytest.fixture
def latin1(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], Exception]], None]:
    """Return a function that has the database take Latin letters alone."""
    execute = CursorWrapper.execute

    def apply(error: Callable[[str], Exception]) -> None:
        def limited(self: Any, sql: str, params: Any = None) -> Any:
            for one in params or ():
                if (
                    isinstance(one, str)
                    and not one.encode("latin-1", "ignore").decode("latin-1") == one
                ):
                    raise error(one)
            return execute(self, sql, params)

        monkeypatch.setattr(CursorWrapper, "execute", limited)

    return apply


ERRORS = [illegal_mix, unencodable, untranslatable]


@pytest.mark.parametrize("error", ERRORS)
def test_name_that_the_database_cannot_hold_is_refused(
    client: JSONClient,
    user: User,
    clock: Clock,
    hashes: list[str],
    caplog: pytest.LogCaptureFixture,
    latin1: Any,
    error: Any,
) -> None:
    latin1(error)
    call = refused(client, "Αда", hashes, caplog)
    # Receivers store it: django-axes does.
    assert call["credentials"]["username"] == "\\u0391\\u0434\\u0430"
    for _ in range(99):
        client.login("Αда")
    assert client.login("Αда").status_code == 429
    assert client.login().status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [unencodable, untranslatable])
def test_label_that_the_database_cannot_hold_keeps_its_ascii(
    client: JSONClient, user: User, latin1: Any, error: Any
) -> None:
    latin1(error)
    agent = "Mozilla/5.0 (Ада)"
    body = {"username": "ada", "password": PASSWORD, "device": "Ада's phone"}
    headers = {"User-Agent": agent}
    answer = client.post("/auth/login/", body, content_type="application/json", headers=headers)
    assert answer.status_code == 200
    session = LoginSession.objects.get()
    assert (session.device, session.user_agent) == ("???'s phone", "Mozilla/5.0 (???)")


@pytest.mark.parametrize("fails", ["every statement", "the first statement"])
def test_failing_database_is_not_a_wrong_password(
    client: JSONClient, user: User, monkeypatch: pytest.MonkeyPatch, hashes: list[str], fails: str
) -> None:
    execute, calls = CursorWrapper.execute, []

    def broken(self: Any, sql: str, params: Any = None) -> Any:
        calls.append(sql)
        if fails == "every statement" or len(calls) == 1:
            raise OperationalError("gone away")
        return execute(self, sql, params)

    hashes.clear()
    with monkeypatch.context() as patched:
        patched.setattr(CursorWrapper, "execute", broken)
        answer = client.login("zqzq")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert hashes == []
    # Nothing was counted, and nothing is asked for a name that can be held.
    with CaptureQueriesContext(connection) as queries:
        assert client.login("zqzq").status_code == 401
    assert len(queries) == 1
    assert get_user_model().USERNAME_FIELD in queries[0]["sql"]
