"""Encrypted tokens: a signed token inside of a compact JWE. The only module that imports joserfc.

Encryption hides a payload and proves nothing: whoever has a public key can encrypt to it
(RFC 8725 section 3.1). So only nested tokens are made and taken, signed and then encrypted
(RFC 7519 section 11.2), and what comes out is verified as if it had come in plain.
"""

from __future__ import annotations

import hmac
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey

from jwt_auth.errors import TokenNotValid
from jwt_auth.tokens.claims import read_object, read_segment
from jwt_auth.tokens.jws import MAX_LENGTH
from jwt_auth.tokens.keys import (
    KeyForm,
    UnusableKey,
    demand_secrecy,
    identify_secret,
    read_file,
    read_material,
    thumbprint,
)

logger = logging.getLogger("jwt_auth")

# RFC 7518 section 5.3. One for all keys: a token does not choose.
ENCRYPTION = "A256GCM"
SECRET_LENGTH = 32
# RFC 7516 section 7.1: five segments; with a shared secret the second is empty.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){3}", re.ASCII)
_MEMBERS = frozenset({"alg", "enc", "kid", "cty", "epk"})
LONGEST_RSA_KEY = 8192
_IV_LENGTH, _TAG_LENGTH = 12, 16
# A content key of 32 bytes, wrapped (RFC 3394 section 2.2.1).
_WRAPPED_LENGTH = 40
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class EncryptionKey:
    """A key that opens encrypted tokens, with its one algorithm and its one name.

    `identity` is equal for a signing key of the same material: see keys.Key.
    """

    kid: str
    algorithm: str
    identity: str
    material: Any
    # How long the second segment is, in bytes.
    wrapped_length: int
    # The curve of an EC key, which an ephemeral key has to be on.
    curve: str | None = None

    def __repr__(self) -> str:
        return f"<EncryptionKey {self.kid} for {self.algorithm}>"


class EncryptionRing:
    """The keys that open encrypted tokens; one of them may encrypt.

    *takes_plain* is whether a token may come in plain as well: before a change of the
    settings has reached every process, and after.
    """

    def __init__(
        self,
        encrypting: EncryptionKey | None,
        others: Sequence[EncryptionKey],
        *,
        takes_plain: bool,
    ) -> None:
        self.encrypting = encrypting
        self._takes_plain = takes_plain
        first = [] if encrypting is None else [encrypting]
        self._by_kid = {key.kid: key for key in (*first, *others)}

    def seal(self, signed: str) -> str:
        """Return the signed token *signed* encrypted, or as it is where no key encrypts.

        Raises:
            ValueError: it would be longer than any token we take.
        """
        key = self.encrypting
        if key is None:
            return signed
        header = {"alg": key.algorithm, "enc": ENCRYPTION, "kid": key.kid, "cty": "JWT"}
        algorithms = [key.algorithm, ENCRYPTION]
        raw = jwe.encrypt_compact(header, signed, key.material, algorithms=algorithms)
        if len(raw) > MAX_LENGTH:
            raise ValueError(f"the token would be longer than {MAX_LENGTH} bytes")
        return raw

    def open(self, raw: str) -> str:
        """Return the signed token in *raw*; nothing of it is verified.

        Raises:
            TokenNotValid: *raw* is not a token that was encrypted to one of these keys,
                or is plain where it has to be encrypted.
        """
        # By length alone and before anything else, as for plain tokens.
        if not isinstance(raw, str) or len(raw) > MAX_LENGTH:
            raise TokenNotValid("no text, or too long")
        if raw.count(".") != 4:
            if not self._takes_plain:
                raise TokenNotValid("not encrypted")
            return raw
        if _COMPACT.fullmatch(raw) is None:
            raise TokenNotValid("not a compact JWE")
        first, *others = (read_segment(one) if one else b"" for one in raw.split("."))
        key = self._key_for(read_object(first))
        wrapped, iv, _, tag = others
        # The library stumbles over parts of other lengths in many ways.
        lengths = (len(wrapped), len(iv), len(tag))
        if lengths != (key.wrapped_length, _IV_LENGTH, _TAG_LENGTH):
            raise TokenNotValid("a part of the JWE has another length")
        return _decrypted(raw, key)

    def _key_for(self, header: Mapping[str, Any]) -> EncryptionKey:
        # Whatever is not named here has a meaning that nobody here carries out: `zip`,
        # `crit`, `p2s`, `p2c`, `apu`, `jwk`, …
        if not header.keys() <= _MEMBERS:
            raise TokenNotValid("another member in the header of the JWE")
        # RFC 7519 section 5.2: a nested token says so. A bare claim set is not taken.
        if header.get("cty") != "JWT" or header.get("enc") != ENCRYPTION:
            raise TokenNotValid("another cty or enc")
        kid = header.get("kid")
        key = self._by_kid.get(kid) if isinstance(kid, str) else None
        if key is None or header.get("alg") != key.algorithm:
            raise TokenNotValid("no key of this kid and alg opens it")
        if ("epk" in header) != (key.curve is not None):
            raise TokenNotValid("epk is missing, or has no place")
        if key.curve is not None and not _is_public_point(header["epk"], key.curve):
            raise TokenNotValid("epk is no public key of this curve")
        return key


def _is_public_point(epk: Any, curve: str) -> bool:
    # Whether the point is on the curve is seen when it is computed with.
    return (
        isinstance(epk, dict)
        and epk.keys() == {"kty", "crv", "x", "y"}
        and all(isinstance(one, str) for one in epk.values())
        and (epk["kty"], epk["crv"]) == ("EC", curve)
    )


def load_encryption_key(form: KeyForm) -> EncryptionKey:
    """Make an encryption key of what a setting holds; the forms are those of a signing key.

    A secret of 32 bytes is the content key itself (``dir``); of a longer one it is
    derived. An EC key agrees on one (``ECDH-ES+A256KW``), with an RSA key it is
    encrypted (``RSA-OAEP-256``).

    Raises:
        MissingExtra: the kind of key needs `cryptography`.
        UnusableKey: weak, public, of the wrong kind, or unreadable.
    """
    if isinstance(form, Path):
        form = read_file(form)
    material, kid = read_material(form, private=True, use="enc")
    if isinstance(material, bytes):
        key = _of_secret(material, kid)
    else:
        key = _of_private_key(material, kid)
    if isinstance(form, Mapping) and form.get("alg", key.algorithm) != key.algorithm:
        raise UnusableKey(f"the JWK's alg is not {key.algorithm}")
    return key


def _of_private_key(material: Any, kid: str | None) -> EncryptionKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    identity = thumbprint(material.public_key())
    pem = material.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if isinstance(material, rsa.RSAPrivateKey):
        if material.key_size > LONGEST_RSA_KEY:
            # joserfc opens nothing longer.
            raise UnusableKey(f"an RSA key that encrypts has at most {LONGEST_RSA_KEY} bits")
        length = (material.key_size + 7) // 8
        key: Any = RSAKey.import_key(pem)
        return EncryptionKey(kid or identity, "RSA-OAEP-256", identity, key, length)
    if isinstance(material, ec.EllipticCurvePrivateKey):
        key = ECKey.import_key(pem)
        curve = _CURVES[material.curve.name]
        return EncryptionKey(
            kid or identity, "ECDH-ES+A256KW", identity, key, _WRAPPED_LENGTH, curve
        )
    raise UnusableKey("a key that encrypts is a secret, RSA or EC")


def _of_secret(secret: bytes, kid: str | None) -> EncryptionKey:
    if len(secret) < SECRET_LENGTH:
        raise UnusableKey(
            f"a secret that encrypts has at least {SECRET_LENGTH} bytes; this one has {len(secret)}"
        )
    demand_secrecy(secret)
    content_key = secret
    if len(secret) > SECRET_LENGTH:
        content_key = hmac.digest(secret, b"jwt_auth encryption key", "sha256")
    digest = hmac.digest(secret, b"jwt_auth encryption key id", "sha256")
    name = kid or urlsafe_b64encode(digest[:12]).decode("ascii")
    content = OctKey.import_key(content_key)
    return EncryptionKey(name, "dir", identify_secret(secret), content, 0)


def _decrypted(raw: str, key: EncryptionKey) -> str:
    try:
        algorithms = [key.algorithm, ENCRYPTION]
        plaintext = jwe.decrypt_compact(raw, key.material, algorithms=algorithms).plaintext
        return (plaintext or b"").decode("ascii")
    except MemoryError:
        raise
    except (JoseError, ValueError, TypeError):
        raise TokenNotValid("it cannot be decrypted") from None
    except Exception as error:  # noqa: BLE001
        # A library that stumbles over a token has not opened it. The type alone is
        # logged: messages and tracebacks may quote the token.
        logger.error("decrypting a token raised %s", type(error).__name__)
        raise TokenNotValid("it cannot be decrypted") from None
