"""The project under proof: a database that several processes share.

``JWT_AUTH_TEST_DATABASE`` names the engine: ``sqlite`` (a file, in WAL mode), ``postgresql`` or
``mariadb``. Processes that a proof starts get ``JWT_AUTH_PROOF_NAME``, the name of the database
that the tests have made, and take it as their own.
"""

import json
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

ENGINE = os.environ.get("JWT_AUTH_TEST_DATABASE", "sqlite")
DATABASE: dict[str, Any] = DATABASES["default"]

if ENGINE == "sqlite":
    name = os.environ.get("JWT_AUTH_PROOF_NAME") or str(
        Path(tempfile.gettempdir()) / f"jwt_auth_proof_{os.getpid()}.sqlite3"
    )
    DATABASE |= {
        "NAME": name,
        "TEST": {"NAME": name},
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
else:
    DATABASE["NAME"] = os.environ.get("JWT_AUTH_PROOF_NAME") or DATABASE["NAME"]
    DATABASE["TEST"] = {"NAME": f"jwt_auth_proof_{os.getpid()}"}
    DATABASE.setdefault("OPTIONS", {})

# What a server of another deployment has in its settings, as JSON.
globals().update(json.loads(os.environ.get("JWT_AUTH_PROOF_SETTINGS", "{}")))
# Clients here do in a second what takes people a day.
JWT_AUTH = {"THROTTLE_RATES": None, **globals().get("JWT_AUTH", {})}
if "JWT_AUTH_PROOF_GRACE" in os.environ:
    grace = timedelta(seconds=float(os.environ["JWT_AUTH_PROOF_GRACE"]))
    JWT_AUTH["REFRESH_GRACE"] = grace

# The same database once more, as projects have it beside a pool of connections.
DATABASES["direct"] = {**DATABASE, "OPTIONS": {**DATABASE["OPTIONS"]}}

# A second database, whatever the engine of the first.
replica = str(Path(tempfile.gettempdir()) / f"jwt_auth_replica_{os.getpid()}.sqlite3")
DATABASES["replica"] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": replica,
    "TEST": {"NAME": replica},
}

level = os.environ.get("JWT_AUTH_PROOF_ISOLATION")
if level and ENGINE == "postgresql":
    from psycopg import IsolationLevel

    DATABASE["OPTIONS"] |= {"isolation_level": IsolationLevel[level.replace(" ", "_")]}
elif level:
    DATABASE["OPTIONS"] |= {"isolation_level": level}
