"""One project with everybody in it.

``BENCHMARK_DATABASE`` is ``sqlite`` or ``postgresql``, ``BENCHMARK_NAME`` the name of the
database (a file for SQLite), ``BENCHMARK_CONTENDER`` whom a server serves, beside the floor.
With ``BENCHMARK_POOL``, connections to PostgreSQL come from a pool of that size: under ASGI
each request has a thread of its own, and none would find the connection of another.
"""

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.contenders import ALL, ALLAUTH, BEHIND, FLOOR

SECRET_KEY = "benchmarks-only-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEBUG = False
ROOT_URLCONF = "benchmarks.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Logins are measured without the hash: it is the same for everybody, and long on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "jwt_auth",
    "rest_framework_simplejwt",
    "rest_framework_simplejwt.token_blacklist",
    "knox",
    "allauth",
    "allauth.account",
    "allauth.headless",
]
# By itself five minutes, as ours: a server is asked with one token for longer.
LIFETIME = timedelta(minutes=15)
# As people are told to use it, where a lost refresh token is to be noticed.
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": LIFETIME,
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
}
HEADLESS_TOKEN_STRATEGY = "allauth.headless.tokens.strategies.jwt.JWTTokenStrategy"
HEADLESS_JWT_ALGORITHM = "HS256"
HEADLESS_ONLY = True
# simplejwt and the others have no names of groups in their tokens.
JWT_AUTH: dict[str, Any] = {"ROLES": None, "ACCESS_TOKEN_LIFETIME": LIFETIME}

ENGINE = os.environ.get("BENCHMARK_DATABASE", "sqlite")
NAME = os.environ.get("BENCHMARK_NAME")
POOL = int(os.environ.get("BENCHMARK_POOL", "0"))
POSTGRESQL = {
    "USER": os.environ.get("BENCHMARK_POSTGRESQL_USER", "postgres"),
    "PASSWORD": os.environ.get("BENCHMARK_POSTGRESQL_PASSWORD", ""),
    "HOST": os.environ.get("BENCHMARK_POSTGRESQL_HOST", "127.0.0.1"),
    "PORT": os.environ.get("BENCHMARK_POSTGRESQL_PORT", "5432"),
}
if ENGINE == "sqlite":
    DATABASES: dict[str, dict[str, Any]] = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": NAME or str(Path(tempfile.gettempdir()) / "jwt_auth_benchmark.sqlite3"),
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            },
            "CONN_MAX_AGE": None,
        }
    }
elif ENGINE == "postgresql":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": NAME or "jwt_auth_benchmark",
            **POSTGRESQL,
            "CONN_MAX_AGE": None,
        }
    }
    if POOL:
        DATABASES["default"]["CONN_MAX_AGE"] = 0
        DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": POOL, "max_size": POOL}}
else:
    raise ValueError(f"BENCHMARK_DATABASE is {ENGINE!r}; it is sqlite or postgresql")

# A server serves one; where there is a choice, each brings its own middleware.
SERVED = os.environ.get("BENCHMARK_CONTENDER")
CONTENDERS = (
    ALL if SERVED is None else [one for one in [*ALL, BEHIND] if one.name in (FLOOR.name, SERVED)]
)
MIDDLEWARE = [middleware for one in CONTENDERS for middleware in one.middleware]
if SERVED is not None:
    globals().update(CONTENDERS[-1].settings)
if ALLAUTH not in CONTENDERS:
    INSTALLED_APPS = [app for app in INSTALLED_APPS if not app.startswith("allauth")]
