"""``manage.py jwt_auth_generate_key``: make a key file, and say how it comes into use."""

from __future__ import annotations

import json
import os
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jwt_auth.tokens.jws import key_to_jwk
from jwt_auth.tokens.keys import (
    ALGORITHMS,
    CURVE_ALGORITHMS,
    RSA_ALGORITHMS,
    SECRET_LENGTHS,
    MissingExtra,
    UnusableKey,
    load_key,
    read_material,
)
from jwt_auth.views import KEYS_MAX_AGE

# NIST SP 800-57 part 1 table 2: 128 bits of security, as the curves have.
RSA_BITS = 3072

STEPS = """
Wrote {shown} ({algorithm}, kid {kid}), which its owner alone can read.

No token is refused if every host takes these steps in this order:

1. First verify. Every process knows the new key; the old one still signs.

   JWT_AUTH = {{…, "VERIFYING_KEYS": [Path({shown})]}}

2. Then sign, when step 1 runs everywhere and {max_age} seconds have passed, in which other
   services have fetched the published keys. What was SIGNING_KEY verifies; write None for
   the key that is derived from SECRET_KEY. Services that have ALGORITHMS for this issuer
   need {algorithm} among them first.

   JWT_AUTH = {{…, "SIGNING_KEY": Path({shown}), "VERIFYING_KEYS": [<the old key>]}}

3. Then forget, when ACCESS_TOKEN_LIFETIME and LEEWAY have passed since step 2 ran
   everywhere.

   JWT_AUTH = {{…, "SIGNING_KEY": Path({shown})}}

Leave ALGORITHM out: each key says its own. If it is set today to another than the usual
one of the old key, docs/how-to/keys.md says what comes first.
"""


class Command(BaseCommand):
    """Writes a new key; nothing of it is shown and no file is overwritten."""

    # The settings may name the file that is about to be written.
    requires_system_checks = ()
    help = "Write a new signing key to a file, and print the settings of each step of a rotation."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the algorithm and the file."""
        parser.add_argument("--algorithm", required=True, choices=sorted(ALGORITHMS))
        parser.add_argument(
            "--output",
            type=Path,
            help="the file; by default it is named by algorithm and kid",
        )

    def handle(self, *args: Any, algorithm: str, output: Path | None, **options: Any) -> None:
        """Make it."""
        try:
            data = _generate(algorithm)
            if load_key(data, private=True).algorithm != algorithm:
                # The kind of key means another algorithm: a JWK says which.
                data = _as_jwk(data, algorithm)
            key = load_key(json.loads(data) if data[:1] == b"{" else data, private=True)
        except MissingExtra as error:
            raise CommandError(str(error)) from None
        except UnusableKey as error:  # pragma: no cover
            raise CommandError(f"The new key cannot be used: {error}.") from None
        ending = "jwk" if data[:1] == b"{" else "secret" if algorithm in SECRET_LENGTHS else "pem"
        path = output or Path(f"jwt_auth-{algorithm}-{key.kid[:8]}.{ending}")
        _write(path, data)
        self.stdout.write(
            STEPS.format(
                # Nothing that a terminal would obey, and no way out of the literal.
                shown=ascii(str(path.resolve())),
                algorithm=algorithm,
                kid=key.kid,
                max_age=KEYS_MAX_AGE,
            )
        )


def _generate(algorithm: str) -> bytes:
    """Return a new key for *algorithm* as the content of a file."""
    if algorithm in SECRET_LENGTHS:
        return secrets.token_urlsafe(SECRET_LENGTHS[algorithm]).encode()
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    except ImportError:
        raise MissingExtra(
            "this kind of key needs an extra: pip install 'django-jwt-sessions[crypto]'"
        ) from None
    private: Any
    if algorithm in RSA_ALGORITHMS:
        private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        curves: dict[str, Any] = {
            "secp256r1": ec.SECP256R1,
            "secp384r1": ec.SECP384R1,
            "secp521r1": ec.SECP521R1,
        }
        [curve] = [name for name, signs in CURVE_ALGORITHMS.items() if signs == algorithm]
        private = ec.generate_private_key(curves[curve]())
    pem: bytes = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def _as_jwk(data: bytes, algorithm: str) -> bytes:
    """Return the key in *data* as a JWK that names its algorithm."""
    material, _ = read_material(data, private=True)
    if isinstance(material, bytes):
        jwk = {"kty": "oct", "k": urlsafe_b64encode(material).rstrip(b"=").decode("ascii")}
    else:
        jwk = key_to_jwk(algorithm, material)
        jwk.pop("key_ops", None)
    return json.dumps({**jwk, "use": "sig", "alg": algorithm}).encode()


def _write(path: Path, data: bytes) -> None:
    # Made with its permissions, not given them afterwards; a link is not followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise CommandError(f"{path} is there already; it is not overwritten.") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written ({type(error).__name__}).") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
