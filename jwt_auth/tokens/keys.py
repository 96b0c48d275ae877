"""Keys: loaded from what a project writes in its settings, and kept in a ring.

One key has one algorithm and one ``kid`` (RFC 8725 section 3.1); a token chooses
among keys that are there and never brings one along.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import math
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jwt_auth.errors import TokenNotValid
from jwt_auth.tokens import jws

# RFC 7518 section 3.2: a key of the hash's size or larger.
SECRET_LENGTHS = {"HS256": 32, "HS384": 48, "HS512": 64}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS = frozenset((*SECRET_LENGTHS, *RSA_ALGORITHMS, *CURVE_ALGORITHMS.values(), "EdDSA"))
MIN_RSA_BITS = 2048
# The 126 primes up to 701: the library with ROCA makes a key of 1984 bits or more from them.
_ROCA_PRIMES = [n for n in range(2, 702) if all(n % m for m in range(2, math.isqrt(n) + 1))]

# From documentation that everybody copies.
_SAMPLES = frozenset({b"a-string-secret-at-least-256-bits-long"})
_FEWEST_DISTINCT_BYTES = 8
_KID = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
# How keys and certificates begin in DER (X.690 section 8.9): a SEQUENCE with its length, and in it
# a version, a number or another SEQUENCE.
_DER = re.compile(
    rb"\x30(?:([\x00-\x7f])(?:\x02\x01[\x00\x01]|\x30[\x00-\x7f]\x06)|(?:\x81(.)|\x82(..))[\x02\x30])",
    re.DOTALL,
)
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_PRIVATE_LABELS = {b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"}
_PUBLIC_LABELS = {b"PUBLIC KEY", b"RSA PUBLIC KEY"}
# RFC 7638 section 3.2, RFC 8037 section 2: the members that make a thumbprint.
_REQUIRED_MEMBERS = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}

KeyForm = str | bytes | Path | Mapping[str, Any]


class UnusableKey(ValueError):
    """A key cannot be used. The message says why and holds nothing of the key."""


class MissingExtra(UnusableKey):
    """A public-key algorithm is asked for and `cryptography` is not installed."""


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Key:
    """A key with its one algorithm and its one name.

    `verifying` is the secret or a public key, `signing` the secret, a private key
    or `None`. `public_jwk` is what may be published; `None` for a secret. `identity`
    is equal for keys of the same material, whatever their names.
    """

    kid: str
    algorithm: str
    identity: str
    verifying: Any
    signing: Any
    public_jwk: Mapping[str, str] | None

    def __repr__(self) -> str:
        return f"<Key {self.kid} for {self.algorithm}>"


class KeySet:
    """Keys that verify, by ``kid``."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_kid = {key.kid: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_kid)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_kid.values())

    def get(self, kid: object) -> Key | None:
        """Return the key that is called *kid*, which may be anything."""
        return self._by_kid.get(kid) if isinstance(kid, str) else None

    @property
    def identities(self) -> frozenset[str]:
        """The `Key.identity` of every key."""
        return frozenset(key.identity for key in self._by_kid.values())

    def find(self, header: Mapping[str, Any]) -> Key:
        """Return the one key that may verify a token with this *header*.

        Raises:
            TokenNotValid: there is none, or ``alg`` is not that key's algorithm.
        """
        algorithm = header.get("alg")
        if "kid" in header:
            key = self.get(header["kid"])
            # Exact equality with the algorithm of the key's own record: the token
            # does not choose (RFC 8725 section 3.1).
            if key is None or key.algorithm != algorithm:
                raise TokenNotValid("no key of this kid and alg")
            return key
        # RFC 7515 section 4.1.4 makes `kid` optional. Without it there must be no
        # choice: keys are never tried one after the other.
        candidates = [key for key in self._by_kid.values() if key.algorithm == algorithm]
        if len(candidates) != 1:
            raise TokenNotValid("no kid, and not exactly one key for this alg")
        return candidates[0]


class KeyRing(KeySet):
    """The keys of our own, newest first: one signs, all verify."""

    def __init__(self, signing: Key, others: Iterable[Key] = ()) -> None:
        super().__init__((signing, *others))
        self.signing = signing

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the JWK Set to publish (RFC 7517 section 5): public parts alone."""
        keys = self._by_kid.values()
        return {"keys": [dict(key.public_jwk) for key in keys if key.public_jwk is not None]}


def load_key(form: KeyForm, algorithm: str | None = None, *, private: bool) -> Key:
    """Make a key of what a setting holds: secret, PEM, JWK, or a `Path` to one of them.

    *algorithm* is used where it fits the kind of key; a JWK's own ``alg`` goes
    before it, and without either the kind decides. *private* demands a key that
    can sign. Where a file is named, white space at the end of a secret is dropped.

    Raises:
        MissingExtra: the kind of key needs `cryptography`.
        UnusableKey: weak, of the wrong kind, or unreadable.
    """
    if isinstance(form, Path):
        form = read_file(form)
    if isinstance(form, Mapping):
        return _load_jwk(form, algorithm, private=private)
    material, _ = read_material(form, private=private)
    if isinstance(material, bytes):
        return load_secret(material, algorithm)
    return _asymmetric(material, algorithm, private=private)


def read_material(
    form: str | bytes | Mapping[str, Any], *, private: bool, use: str = "sig"
) -> tuple[bytes | Any, str | None]:
    """Return the secret or the cryptography key that *form* holds, and the ``kid`` it brings.

    *use* is what a JWK must allow (RFC 7517 section 4.2).

    Raises:
        MissingExtra: the kind of key needs `cryptography`.
        UnusableKey: of the wrong kind, or unreadable. Its strength is not looked at.
    """
    if isinstance(form, Mapping):
        return _jwk_material(form, private=private, use=use)
    try:
        data = form.encode() if isinstance(form, str) else form
    except UnicodeEncodeError:
        raise UnusableKey("the text has no UTF-8") from None
    if b"-----BEGIN" in data:
        return _load_pem(data, private=private), None
    return data, None


def load_secret(secret: bytes, algorithm: str | None = None, kid: str | None = None) -> Key:
    """Make an HMAC key of *secret*.

    Raises:
        UnusableKey: too short for the algorithm, not random, or public knowledge.
    """
    algorithm = algorithm if algorithm in SECRET_LENGTHS else "HS256"
    if len(secret) < SECRET_LENGTHS[algorithm]:
        raise UnusableKey(
            f"a secret for {algorithm} has at least {SECRET_LENGTHS[algorithm]} bytes; "
            f"this one has {len(secret)}"
        )
    demand_secrecy(secret)
    identity = identify_secret(secret)
    if kid is None:
        # Never a thumbprint: a hash of the secret would let anybody test guesses
        # offline against a shorter text than a signature.
        kid = urlsafe_b64encode(bytes.fromhex(identity)[:12]).decode("ascii")
    return Key(kid, algorithm, identity, verifying=secret, signing=secret, public_jwk=None)


def identify_secret(secret: bytes) -> str:
    """Return the identity of every key that is made of *secret*, see `Key.identity`."""
    return hmac.digest(secret, b"jwt_auth key id", "sha256").hex()


def demand_secrecy(secret: bytes) -> None:
    """Refuse a *secret* that others can guess or know.

    Raises:
        UnusableKey: of few different bytes, from documentation, or a key of another kind.
    """
    if secret in _SAMPLES or len(set(secret)) < _FEWEST_DISTINCT_BYTES:
        raise UnusableKey("this secret can be guessed; make one with secrets.token_urlsafe(64)")
    if _is_der(secret):
        raise UnusableKey("this is DER; a PEM is expected, see `openssl pkey -inform der`")
    if _is_encoded_key(secret):
        raise UnusableKey(
            "this is a key in base64; a PEM is expected, with its first and last line"
        )
    try:
        jws.prepare_secret(secret)
    except Exception:  # noqa: BLE001
        # `from None`: PyJWT's message may quote the key.
        raise UnusableKey("a public key or certificate cannot serve as a secret") from None


def _is_der(data: bytes) -> bool:
    """Tell whether *data* is a key or a certificate in DER, from the first byte to the last.

    At most one random secret in 2^31 looks like one.
    """
    match = _DER.match(data)
    if match is None or match.lastindex is None:
        return False
    length = int.from_bytes(match[match.lastindex])
    return match.end(match.lastindex) + length == len(data)


def _is_encoded_key(data: bytes) -> bool:
    """Tell whether *data* is the base64 of a PEM or of DER, as some providers show a key."""
    text = b"".join(data.split())
    try:
        decoded = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False
    return b"-----BEGIN" in decoded or _is_der(decoded)


def read_file(path: Path) -> bytes | Mapping[str, Any]:
    """Return the secret, the PEM or the JWK in the file *path*.

    Raises:
        UnusableKey: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UnusableKey(f"the file cannot be read ({type(error).__name__})") from None
    if b"-----BEGIN" in data or _is_der(data):
        return data
    if data.lstrip().startswith(b"{"):
        with suppress(ValueError):
            jwk = json.loads(data)
            if isinstance(jwk, dict) and "kty" in jwk:
                return jwk
    return data.rstrip()


def _load_pem(data: bytes, *, private: bool) -> Any:
    """Return the private or public key object of the one PEM block in *data*."""
    # `openssl ecparam -genkey` writes the curve's name in a block of its own.
    blocks = [match for match in _PEM_BLOCK.finditer(data) if match[1] != b"EC PARAMETERS"]
    if len(blocks) != 1:
        raise UnusableKey(f"one PEM block is expected; {len(blocks)} were found")
    block, label = blocks[0][0] + b"\n", blocks[0][1]
    if b"ENCRYPTED" in block:
        raise UnusableKey("the PEM is encrypted; decrypt it with `openssl pkey`")
    if label == b"CERTIFICATE":
        raise UnusableKey("a certificate is no key; see `openssl x509 -pubkey -noout`")
    if label not in _PRIVATE_LABELS | _PUBLIC_LABELS:
        raise UnusableKey("a PEM of PKCS#8, PKCS#1, SEC 1 or SubjectPublicKeyInfo is expected")
    if private and label in _PUBLIC_LABELS:
        raise UnusableKey("a public key cannot sign; the private key is needed")
    serialization = _cryptography()
    try:
        if label in _PUBLIC_LABELS:
            return serialization.load_pem_public_key(block)
        return serialization.load_pem_private_key(block, password=None)
    except Exception:  # noqa: BLE001
        raise UnusableKey("the PEM cannot be parsed") from None


def _load_jwk(jwk: Mapping[str, Any], algorithm: str | None, *, private: bool) -> Key:
    material, kid = _jwk_material(jwk, private=private, use="sig")
    own_algorithm = jwk.get("alg", algorithm)
    if "alg" in jwk and not (isinstance(own_algorithm, str) and own_algorithm in ALGORITHMS):
        raise UnusableKey("the JWK's alg is not supported")
    if isinstance(material, bytes):
        key = load_secret(material, own_algorithm, kid)
    else:
        key = _asymmetric(material, own_algorithm, kid, private=private)
    if "alg" in jwk and key.algorithm != own_algorithm:
        raise UnusableKey("the JWK's alg does not fit its kind of key")
    return key


def _jwk_material(
    jwk: Mapping[str, Any], *, private: bool, use: str
) -> tuple[bytes | Any, str | None]:
    if jwk.get("kty") not in ("oct", *_REQUIRED_MEMBERS):
        raise UnusableKey("a JWK's kty is oct, RSA, EC or OKP")
    # RFC 7517 sections 4.2 and 4.3: a key keeps to the use it was made for.
    if jwk.get("use", use) != use:
        raise UnusableKey(f"the JWK's use is not {use}")
    if use == "enc":
        wanted = ["decrypt", "unwrapKey", "deriveKey", "deriveBits"]
    else:
        wanted = ["sign"] if private else ["sign", "verify"]
    operations = jwk.get("key_ops", wanted)
    if not isinstance(operations, list) or not any(name in operations for name in wanted):
        raise UnusableKey(f"the JWK's key_ops do not contain {wanted[-1]}")
    kid = jwk.get("kid")
    if kid is not None and (not isinstance(kid, str) or _KID.fullmatch(kid) is None):
        raise UnusableKey("a kid has 1 to 64 visible ASCII characters")
    if jwk["kty"] != "oct":
        _cryptography()
    try:
        material = jws.key_from_jwk(jwk)
    except Exception:  # noqa: BLE001
        # `from None`: PyJWT's message quotes the whole JWK, private parts included.
        raise UnusableKey("the JWK cannot be parsed") from None
    if private and not isinstance(material, bytes) and not hasattr(material, "private_bytes"):
        raise UnusableKey("a public key cannot sign or decrypt; the private key is needed")
    return material, kid


def _asymmetric(
    material: Any, algorithm: str | None, kid: str | None = None, *, private: bool
) -> Key:
    """Make a key of a cryptography key object."""
    signing = material if hasattr(material, "private_bytes") else None
    if private and signing is None:
        raise UnusableKey("a public key cannot sign; the private key is needed")
    verifying = material if signing is None else material.public_key()
    algorithm = _fitting_algorithm(verifying, algorithm)
    whole = jws.key_to_jwk(algorithm, verifying)
    # Only the members that a public key needs: whatever else a library adds, no
    # private part can come along.
    required = {name: whole[name] for name in _REQUIRED_MEMBERS[whole["kty"]]}
    identity = _digest(required)
    kid = kid or identity
    public_jwk = {**required, "use": "sig", "alg": algorithm, "kid": kid}
    return Key(
        kid, algorithm, identity, verifying=verifying, signing=signing, public_jwk=public_jwk
    )


def _fitting_algorithm(public_key: Any, wanted: str | None) -> str:
    """Return *wanted* if *public_key* can serve it, else the usual one for its kind."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(public_key, RSAPublicKey):
        exponent = public_key.public_numbers().e
        if public_key.key_size < MIN_RSA_BITS:
            raise UnusableKey(f"an RSA key has at least {MIN_RSA_BITS} bits (RFC 7518 3.3)")
        if exponent < 3 or exponent % 2 == 0:
            raise UnusableKey("an RSA key's public exponent is odd and above 1")
        if _is_of_roca(public_key.public_numbers().n):
            raise UnusableKey("an RSA key made by a library with ROCA (CVE-2017-15361)")
        return wanted if wanted in RSA_ALGORITHMS else "RS256"
    if isinstance(public_key, EllipticCurvePublicKey):
        # RFC 7518 section 3.4 ties each ES algorithm to one curve.
        algorithm = CURVE_ALGORITHMS.get(public_key.curve.name)
        if algorithm is None:
            raise UnusableKey("an EC key's curve is P-256, P-384 or P-521")
        return algorithm
    if isinstance(public_key, Ed25519PublicKey):
        return "EdDSA"
    raise UnusableKey("a key is RSA, EC or Ed25519")


def _is_of_roca(modulus: int) -> bool:
    """Tell whether *modulus* is the product of two primes that follow from few bits.

    Some smart cards and TPMs have made their primes as k·M + (65537^a mod M), where M is the
    product of small primes. The modulus divided by each of these leaves a power of 65537. One
    honest modulus in 2^167 does so by chance.
    """
    return all(modulus % prime in _powers_of_65537(prime) for prime in _ROCA_PRIMES)


@functools.cache
def _powers_of_65537(prime: int) -> frozenset[int]:
    return frozenset(pow(65537, exponent, prime) for exponent in range(prime))


def thumbprint(public_key: Any) -> str:
    """Return the thumbprint of a public key of the cryptography package (RFC 7638).

    Raises:
        UnusableKey: weak, or of a kind that nothing is done with here.
    """
    whole = jws.key_to_jwk(_fitting_algorithm(public_key, None), public_key)
    return _digest({name: whole[name] for name in _REQUIRED_MEMBERS[whole["kty"]]})


def _digest(required: Mapping[str, str]) -> str:
    # RFC 7638 section 3: members in order of their names, without white space.
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingExtra(
            "this kind of key needs an extra: pip install 'django-jwt-sessions[crypto]'"
        ) from None
    return serialization
