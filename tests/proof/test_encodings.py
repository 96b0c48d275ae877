"""A database of one byte for each character: what it cannot hold is no reason to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

from jwt_auth.models import LoginSession
from tests.conftest import PASSWORD, JSONClient

CREATE = {
    "postgresql": "CREATE DATABASE {} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    " TEMPLATE template0",
    "mysql": "CREATE DATABASE {} CHARACTER SET latin1",
}


def execute(statement: str) -> None:
    """Execute *statement* outside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def latin1(engine: str) -> Iterator[None]:
    """Work in a new database of this encoding."""
    if engine not in CREATE:
        pytest.skip("SQLite has no such encoding")
    settings, before = connection.settings_dict, connection.settings_dict["NAME"]
    name = f"{before}_latin1"
    execute(CREATE[engine].format(name))
    connection.close()
    settings["NAME"] = name
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        settings["NAME"] = before
        execute(f"DROP DATABASE {name}")


@pytest.mark.usefixtures("latin1")
def test_login_in_a_latin1_database(
    client: JSONClient,
    make_user: Callable[..., User],
    hashes: list[str],
    caplog: Any,
    outcome: Callable[..., None],
) -> None:
    make_user("élise")
    hashes.clear()
    caplog.clear()
    for name in ("Ада", "ada☃", "élise☃"):
        answer = client.login(name)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert hashes == [PASSWORD] * 3
    assert {one.name for one in caplog.records} == {"django.request"}
    answer = client.login("élise", device="Ада's phoné")
    assert answer.status_code == 200
    assert LoginSession.objects.get().device == "???'s phon?"
    outcome("names and labels that a latin1 database cannot hold", 4, "401 for names, ? in labels")
