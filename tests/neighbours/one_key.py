"""Sends every hostile token of one algorithm to each neighbour and prints the verdicts as JSON.

A process of its own per algorithm, since simplejwt reads its key when it is imported.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

from tests.attacks.corpus import honest, hostile
from tests.attacks.forge import FORGES, SECRET, Forge
from tests.conftest import PASSWORD, public_pem

ACCEPTED, REFUSED, CRASHED = "accepted", "refused", "crashed"
# From nothing that `jwt_auth` brings: the same lines as in its README.
REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"]}
Verdict = Callable[[bytes], str]


def configure(forge: Forge, folder: str) -> None:
    """Set up one project with both apps, each with the same key, and its database in *folder*."""
    key: Any = SECRET.decode() if forge.algorithm == "HS256" else forge.setting.decode()
    verifying = "" if forge.algorithm == "HS256" else public_pem(forge.setting).decode()
    settings.configure(
        SECRET_KEY="only-for-this-comparison-0123456789-abcdefghij",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        ROOT_URLCONF="tests.neighbours.urls",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "rest_framework",
            "jwt_auth",
        ],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db.sqlite3"}
        },
        REST_FRAMEWORK=REST_FRAMEWORK,
        JWT_AUTH={"SIGNING_KEY": forge.setting, "THROTTLE_RATES": None},
        SIMPLE_JWT={
            "ALGORITHM": forge.algorithm,
            "SIGNING_KEY": key,
            "VERIFYING_KEY": verifying,
        },
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def over_http(path: str) -> Verdict:
    """Return the verdict of a DRF view."""
    from django.test import Client

    client = Client(raise_request_exception=False)

    def verdict(raw: bytes) -> str:
        header = f"Bearer {raw.decode('latin-1')}"
        status = client.get(path, HTTP_AUTHORIZATION=header).status_code
        return {200: ACCEPTED, 400: REFUSED, 401: REFUSED}.get(status, CRASHED)

    return verdict


def pyjwt(forge: Forge) -> Verdict:
    """Return the verdict of PyJWT, asked for all that it can check by itself."""
    import jwt

    key = SECRET if forge.algorithm == "HS256" else public_pem(forge.setting)

    def verdict(raw: bytes) -> str:
        try:
            jwt.decode(
                raw,
                key,
                algorithms=[forge.algorithm],
                options={"require": ["exp", "iat", "sub", "jti"]},
            )
        except jwt.PyJWTError:
            return REFUSED
        except Exception:  # noqa: BLE001
            return CRASHED
        return ACCEPTED

    return verdict


def joserfc(forge: Forge) -> Verdict:
    """Return the verdict of joserfc, asked for all that it can check by itself."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

    kinds: dict[str, Any] = {"HS256": OctKey, "RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
    material = SECRET if forge.algorithm == "HS256" else public_pem(forge.setting)
    key = kinds[forge.algorithm].import_key(material)
    wanted = {name: {"essential": True} for name in ("exp", "iat", "sub", "jti")}
    registry = jwt.JWTClaimsRegistry(**wanted)

    def verdict(raw: bytes) -> str:
        try:
            registry.validate(jwt.decode(raw, key, algorithms=[forge.algorithm]).claims)
        except JoseError:
            return REFUSED
        except Exception:  # noqa: BLE001
            return CRASHED
        return ACCEPTED

    return verdict


def compare(algorithm: str, folder: str) -> dict[str, dict[str, str]]:
    """Return each neighbour's verdict on each hostile token.

    Raises:
        AssertionError: a neighbour refuses the good token, so its set-up is wrong.
    """
    forge = FORGES[algorithm]()
    configure(forge, folder)
    from django.contrib.auth import get_user_model

    from jwt_auth import sessions, verify

    user = get_user_model().objects.create_user("ada", password=PASSWORD)
    ours = dict(verify(sessions.start(user).access_token))
    now = int(time.time())
    plain = {"sub": str(user.pk), "iat": now, "exp": now + 300, "jti": "x"}
    theirs = {**plain, "token_type": "access", "user_id": str(user.pk)}
    neighbours: dict[str, tuple[Verdict, dict[str, Any]]] = {
        "jwt_auth": (over_http("/ours/"), ours),
        "simplejwt": (over_http("/simplejwt/"), theirs),
        "PyJWT": (pyjwt(forge), plain),
        "joserfc": (joserfc(forge), plain),
    }
    found = {}
    for name, (verdict, claims) in neighbours.items():
        good = honest(forge, claims)["as issued"]
        assert verdict(good.encode()) == ACCEPTED, name
        found[name] = {title: verdict(raw) for title, raw in hostile(forge, claims).items()}
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as made:
        json.dump(compare(sys.argv[1], made), sys.stdout)
