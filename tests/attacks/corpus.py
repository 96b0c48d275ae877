"""Hostile tokens by name: what a stranger sends, and what the holder of the key sends.

The files of rows B to E take their lists from here and try each alone; `hostile` puts them
into whole tokens of one key, for the surface of this app and for its neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests.attacks.forge import Sign, b64, mac, raw_ecdsa, to_json
from tests.attacks.sealing import CONTENT_KEY, SealedForge, Sealer
from tests.conftest import private_pem, public_pem

ALGORITHMS: list[Any] = [
    "none",
    "None",
    "NONE",
    "nOnE",
    "",
    " ",
    "hs256",
    "HS256 ",
    " HS256",
    "HS2",
    "HS2566",
    "HS384",
    "HS512",
    "RS384",
    "PS256",
    "ES384",
    "ES256K",
    "Ed25519",
    "dir",
    "A256GCM",
    "HS256,RS256",
    7,
    True,
    None,
    ["HS256"],
    {"HS256": 1},
]

KIDS: list[Any] = [
    "",
    "k2",
    "../../../../dev/null",
    "/dev/null",
    "k1'--",
    "k1 OR 1=1",
    "http://127.0.0.1:9/",
    "%s%n{0}",
    "k1\x00",
    "k1\n",
    "K1",
    "é",
    "x" * 4000,
    None,
    7,
    True,
    ["k1"],
    {"k1": 1},
]

TYPES: list[Any] = [
    "JWT",
    "jwt",
    "at+JWT",
    "AT+JWT",
    "at+jwt ",
    "rt+jwt",
    "dpop+jwt",
    "logout+jwt",
    "",
    None,
    7,
]

CRIT: list[Any] = [["exp"], ["b64"], [], None, "exp", [1], [[".."]], {"a": 1}, ["alg"], False]

NO_OBJECT = [
    b"",
    b"[]",
    b'"x"',
    b"7",
    b"null",
    b"true",
    b"{}{}",
    b"{} x",
    b"{",
    b"\xff",
    b"{'a':1}",
]

BAD_MEMBERS = {
    "duplicate": '"sub":"1","sub":"1"',
    "duplicate of another value": '"exp":1,"exp":99999999999',
    "nested duplicate": '"x":{"a":1,"a":1}',
    "NaN": '"x":NaN',
    "Infinity": '"x":-Infinity',
    "1e400": '"x":1e400',
    "nested NaN": '"x":[{"a":NaN}]',
    "lone surrogate": '"x":"\\ud800"',
    "lone surrogate as a name": '"\\udfff":1',
    "surrogate bytes": '"x":"\ud800"',
    "control character": '"x":"\n"',
    "depth 17": '"x":' + "[" * 16 + "]" * 16,
    "depth 3000": '"x":' + "[" * 3000 + "]" * 3000,
    "depth by objects": '"x":' + '{"a":' * 20 + "1" + "}" * 20,
    "unclosed": '"x":' + "[" * 3000,
    "5000 digits": '"x":' + "9" * 5000,
}

NO_TIMES = {
    "text": b'"1899999999"',
    "text with underscores": b'"1_899_999_999"',
    "Arabic digits": '"١٨٩٩٩٩٩٩٩٩"'.encode(),
    "true": b"true",
    "false": b"false",
    "null": b"null",
    "list": b"[1899999999]",
    "object": b"{}",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "1e400": b"1e400",
    "1e300": b"1e300",
    "negative": b"-1",
    "4000 digits": b"9" * 4000,
    "beyond all dates": b"253402300800",
}

IDS: list[Any] = ["", None, 7, ["x"], "x" * 256]

SEALED_HEADERS: dict[str, Any] = {
    "zip": {"zip": "DEF"},
    "crit": {"crit": ["exp"]},
    "crit of nothing": {"crit": []},
    "p2s": {"p2s": "AAAA", "p2c": 1},
    "PBES2": {"alg": "PBES2-HS256+A128KW", "p2s": "AAAA", "p2c": 10_000_000},
    "RSA1_5": {"alg": "RSA1_5"},
    "RSA-OAEP": {"alg": "RSA-OAEP"},
    "A256KW": {"alg": "A256KW"},
    "ECDH-ES": {"alg": "ECDH-ES"},
    "none": {"alg": "none"},
    "a list as alg": {"alg": ["dir"]},
    "no alg": {"alg": ...},
    "A128GCM": {"enc": "A128GCM"},
    "A256CBC-HS512": {"enc": "A256CBC-HS512"},
    "no enc": {"enc": ...},
    "a list as enc": {"enc": ["A256GCM"]},
    "an unknown kid": {"kid": "e2"},
    "no kid": {"kid": ...},
    "a list as kid": {"kid": ["e1"]},
    "another cty": {"cty": "json"},
    "cty in lower case": {"cty": "jwt"},
    "no cty": {"cty": ...},
    "a key in the header": {"jwk": {"kty": "oct", "k": b64(CONTENT_KEY)}},
    "a URL of keys": {"jku": "http://127.0.0.1:1/"},
    "apu": {"apu": "AAAA"},
    "typ": {"typ": "at+jwt"},
}

SEALED_PARTS: dict[str, dict[str, bytes]] = {
    "no iv": {"iv": b""},
    "a short iv": {"iv": b"\0" * 8},
    "a long iv": {"iv": b"\0" * 16},
    "another iv": {"iv": b"\0" * 12},
    "no tag": {"tag": b""},
    "a short tag": {"tag": b"\0" * 4},
    "a long tag": {"tag": b"\0" * 17},
    "another tag": {"tag": b"\0" * 16},
    "no ciphertext": {"ciphertext": b""},
    "another ciphertext": {"ciphertext": b"\0" * 400},
    "a wrapped key of no length": {"wrapped": b"\0"},
    "a wrapped key of zeros": {"wrapped": b"\0" * 40},
    "a wrapped key of 256 zeros": {"wrapped": b"\0" * 256},
}


def with_parts(sealer: Sealer, inner: str, parts: dict[str, bytes]) -> str:
    """Seal *inner* and put *parts* in the place of its own."""
    raw = sealer.seal(inner, **{name: one for name, one in parts.items() if name != "iv"})
    if "iv" not in parts:
        return raw
    # Encrypted under another than the one that is sent.
    segments = raw.split(".")
    segments[2] = b64(parts["iv"])
    return ".".join(segments)


def spliced(value: dict[str, Any], text: str) -> bytes:
    """Write *text* behind the last member of an object."""
    return to_json(value)[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


def spellings(pem: bytes) -> list[bytes]:
    """Return the ways to write the public half of a key that everybody knows."""
    public = serialization.load_pem_private_key(pem, None).public_key()
    formats = serialization.PublicFormat
    encodings = serialization.Encoding
    text = public_pem(pem)
    written = [
        text,
        text.strip(),
        text.replace(b"\n", b"\r\n"),
        text.replace(b"\n", b""),
        public.public_bytes(encodings.DER, formats.SubjectPublicKeyInfo),
        public.public_bytes(encodings.OpenSSH, formats.OpenSSH),
    ]
    if isinstance(public, rsa.RSAPublicKey):
        written.append(public.public_bytes(encodings.PEM, formats.PKCS1))
    if isinstance(public, ed25519.Ed25519PublicKey):
        written.append(public.public_bytes_raw())
    return written


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def ecdsa_signers(pem: bytes) -> dict[str, Sign]:
    """Return signatures by a P-256 key that are no JWS signatures (RFC 7518 section 3.4)."""
    key: Any = serialization.load_pem_private_key(pem, None)
    other: Any = serialization.load_pem_private_key(private_pem("P-384"), None)
    n = P256_ORDER

    def shaped(r: int, s: int, size: int = 32) -> Sign:
        return lambda signed: r.to_bytes(size) + s.to_bytes(size)

    return {
        **{f"r {r}, s {s}": shaped(r, s) for r in (0, 1, n) for s in (0, 1, n)},
        "DER": lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA256())),
        "another hash": lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA384())),
        "swapped": lambda signed: shaped(*raw_ecdsa(key, signed)[::-1])(signed),
        "a byte more": lambda signed: shaped(*raw_ecdsa(key, signed), 33)(signed),
        "another curve": lambda signed: shaped(*raw_ecdsa(other, signed), 48)(signed),
    }


def eddsa_signers(pem: bytes) -> dict[str, Sign]:
    """Return signatures by an Ed25519 key that RFC 8032 section 5.1.7 refuses."""
    key: Any = serialization.load_pem_private_key(pem, None)

    def plus_order(signed: bytes) -> bytes:
        signature = key.sign(signed)
        s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
        return bytes(signature[:32]) + s.to_bytes(32, "little")

    return {
        "s + L": plus_order,
        "small order": lambda signed: b"\x01" + b"\x00" * 63,
        "length of Ed448": lambda signed: b"\x00" * 114,
    }


def rsa_signers(pem: bytes) -> dict[str, Sign]:
    """Return signatures by an RSA key that are not RS256 (RFC 7518 section 3.3)."""
    key: Any = serialization.load_pem_private_key(pem, None)
    n = key.public_key().public_numbers().n
    pkcs1, sha256 = padding.PKCS1v15(), hashes.SHA256()

    def pss(salt: int) -> Sign:
        scheme = padding.PSS(padding.MGF1(sha256), salt)
        return lambda signed: bytes(key.sign(signed, scheme, sha256))

    def plus_modulus(signed: bytes) -> bytes:
        return (int.from_bytes(key.sign(signed, pkcs1, sha256)) + n).to_bytes(257)

    return {
        "SHA-1": lambda signed: key.sign(signed, pkcs1, hashes.SHA1()),  # noqa: S303
        "SHA-512": lambda signed: key.sign(signed, pkcs1, hashes.SHA512()),
        "PSS": pss(32),
        "PSS without salt": pss(0),
        "s + n": plus_modulus,
    }


SIGNERS = {"ES256": ecdsa_signers, "EdDSA": eddsa_signers, "RS256": rsa_signers}


class Maker(Protocol):
    """Makes tokens of any shape that the project under attack would take if they were good.

    A `Forge`, or one whose tokens are sealed as well.
    """

    algorithm: str
    setting: Any

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header of a good token with *changes*; `...` takes a member out."""

    def token(self, payload: Any, header: Any = None, sign: Sign | None = None) -> str:
        """Sign *payload* and *header*, which may be bytes of any kind."""

    def sealed(self, signed: str, sign: Sign | None = None) -> str:
        """Add a signature to two segments of any spelling."""


def hostile(maker: Maker, claims: dict[str, Any]) -> dict[str, bytes]:
    """Return what may follow ``Bearer`` and must be refused, by name.

    *claims* are those of a good token; they have ``iat``, ``exp`` and ``sub``.
    """
    found = {}
    for one in (_texts, _headers, _payloads, _claims, _signatures, _seals):
        for name, raw in one(maker, claims):
            assert name not in found, name
            found[name] = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
    return found


Named = Iterator[tuple[str, str | bytes]]


def _texts(maker: Maker, claims: dict[str, Any]) -> Named:
    good = maker.token(claims)
    for word in ("null", "undefined", "x", "..", "a.b.c", "....", "{}"):
        yield f"the word {word}", word
    parts = good.split(".")
    for place, part in enumerate(parts):
        before, after = parts[:place], parts[place + 1 :]

        def spelled(*now: str, before: list[str] = before, after: list[str] = after) -> str:
            return ".".join([*before, *now, *after])

        yield f"without segment {place}", spelled()
        yield f"segment {place} twice", spelled(part, part)
        if not part:
            continue
        yield f"segment {place} empty", spelled("")
        yield f"segment {place} changed", spelled(("B" if part[0] == "A" else "A") + part[1:])
        yield f"segment {place} cut", spelled(part[:-1])
        for junk in ("=", "+", "/", "~", " ", "\n", "\x00"):
            yield f"{junk!a} in segment {place}", spelled(part[:4] + junk + part[4:])
            yield f"{junk!a} behind segment {place}", spelled(part + junk)
    yield "a byte order mark", b"\xef\xbb\xbf" + good.encode()
    yield "UTF-16", good.encode("utf-16")
    yield "not ASCII", f"{good}é"
    yield "a surrogate", f"{good}\ud800"
    yield "a tab in front", f"\t{good}"
    yield "quoted", f'"{good}"'
    yield "a comma", f"{good},"
    yield "two of them", f"{good} {good}"
    yield "a dot behind", f"{good}."
    yield "8193 bytes", "x" * 8193
    yield "long segments", ".".join(["x" * 20_000] * len(parts))
    flat = dict(zip(("protected", "payload", "signature"), parts, strict=False))
    yield "flattened JSON", to_json(flat)
    yield "flattened JSON in base64url", b64(to_json(flat))
    yield "general JSON in base64url", b64(to_json({"signatures": [flat], **flat}))


def _headers(maker: Maker, claims: dict[str, Any]) -> Named:
    def under(**changes: Any) -> str:
        return maker.token(claims, maker.header(**changes))

    for name in ALGORITHMS:
        if name != maker.algorithm:
            yield f"alg {name!a}", under(alg=name)
            yield f"alg {name!a} and no kid", under(alg=name, kid=...)
            yield f"alg {name!a}, unsigned", _unsigned(maker, claims, alg=name)
    yield "no alg", under(alg=...)
    for kid in KIDS:
        yield f"kid {kid!a:.40}", under(kid=kid)
    for typ in TYPES:
        yield f"typ {typ!a}", under(typ=typ)
    yield "no typ", under(typ=...)
    for crit in CRIT:
        yield f"crit {crit!a}", under(crit=crit)
    for value in (True, False, None, "false"):
        yield f"b64 {value}", under(b64=value)
    yield "b64 in crit", under(b64=False, crit=["b64"])
    yield "cty JWT", under(cty="JWT")
    yield "nested", maker.token(maker.token(claims).encode(), maker.header(cty="JWT"))


def _unsigned(maker: Maker, claims: dict[str, Any], **changes: Any) -> str:
    return maker.token(claims, maker.header(**changes), lambda signed: b"")


def _payloads(maker: Maker, claims: dict[str, Any]) -> Named:
    for value in NO_OBJECT:
        yield f"payload {value!r}", maker.token(value)
        yield f"header {value!r}", maker.token(claims, value)
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        yield f"payload in {encoding}", maker.token(json.dumps(claims).encode(encoding))
        header = json.dumps(maker.header()).encode(encoding)
        yield f"header in {encoding}", maker.token(claims, header)
    for name, text in BAD_MEMBERS.items():
        yield f"payload with {name}", maker.token(spliced(claims, text))
        yield f"header with {name}", maker.token(claims, spliced(maker.header(), text))


def _claims(maker: Maker, claims: dict[str, Any]) -> Named:
    def saying(**changes: Any) -> str:
        changed = {**claims, **changes}
        return maker.token({name: one for name, one in changed.items() if one is not ...})

    for name in ("exp", "iat", "sub", "jti", "sid"):
        yield f"no {name}", saying(**{name: ...})
    for name in ("exp", "nbf", "iat"):
        for kind, text in NO_TIMES.items():
            payload = to_json({**claims, name: "@"}).replace(b'"@"', text)
            yield f"{name}: {kind}", maker.token(payload)
    issued = claims["iat"]
    yield "expired", saying(iat=issued - 600, exp=issued - 300)
    yield "longer than any life", saying(exp=issued + 10 * 365 * 86_400)
    yield "not valid yet", saying(nbf=issued + 200)
    yield "issued tomorrow", saying(iat=issued + 86_400, exp=issued + 86_700)
    for issuer in ("https://elsewhere.example", "", None, 7, ["x"], {"x": 1}):
        yield f"iss {issuer!a}", saying(iss=issuer)
    for audience in ("elsewhere", "", None, 7, True, ["elsewhere"], [["x"]], [7], {"x": 1}):
        yield f"aud {audience!a}", saying(aud=audience)
    for subject in ("", None, 1, True, 1.5, ["1"], {"a": 1}):
        yield f"sub {subject!a}", saying(sub=subject)
    for value in IDS:
        yield f"jti {value!a:.10}", saying(jti=value)
        yield f"sid {value!a:.10}", saying(sid=value)
    for value in ({"jkt": "x"}, {}, None, "x"):
        yield f"cnf {value!a}", saying(cnf=value)


def _signatures(maker: Maker, claims: dict[str, Any]) -> Named:
    for secret in (b"", b"\x00", b"secret", b"secret" * 6, b"null"):
        header = maker.header(alg="HS256")
        yield f"HMAC by {secret!r}", maker.token(claims, header, mac(secret))
    for kind in ("RSA-2048", "P-256", "Ed25519"):
        for place, secret in enumerate(spellings(private_pem(kind))):
            for kid in (maker.header()["kid"], ...):
                header = maker.header(alg="HS256", kid=kid)
                known = "with" if kid is not ... else "without"
                name = f"HMAC by {kind} in spelling {place} {known} kid"
                yield name, maker.token(claims, header, mac(secret))
    mine = ec.generate_private_key(ec.SECP256R1())

    def sign(signed: bytes) -> bytes:
        r, s = raw_ecdsa(mine, signed)
        return r.to_bytes(32) + s.to_bytes(32)

    point = mine.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64(point.x.to_bytes(32))}
    brought: dict[str, Any] = {
        "jwk": {**jwk, "y": b64(point.y.to_bytes(32))},
        "jku": "http://127.0.0.1:9/jwks.json",
        "x5u": "http://127.0.0.1:9/cert.pem",
        "x5c": ["MIIB"],
        "x5t": "abc",
    }
    for member, value in brought.items():
        header = maker.header(alg="ES256", **{member: value})
        yield f"{member} of one's own", maker.token(claims, header, sign)
        yield f"{member} and kid", maker.token(claims, {**header, "kid": "mine"}, sign)
    yield "no signature", maker.token(claims, sign=lambda signed: b"")
    yield "zeros", maker.token(claims, sign=lambda signed: b"\x00" * 32)
    if maker.algorithm in SIGNERS:
        for name, signer in SIGNERS[maker.algorithm](maker.setting).items():
            yield f"signature: {name}", maker.token(claims, sign=signer)


def _seals(maker: Maker, claims: dict[str, Any]) -> Named:
    if not isinstance(maker, SealedForge):
        return
    sealer, inner = maker.sealer, maker.forge.token(claims)
    yield "plain where sealed is demanded", inner
    yield "sealed twice", sealer.seal(maker.token(claims))
    for name, changes in SEALED_HEADERS.items():
        yield f"sealed with {name}", sealer.seal(inner, sealer.header(**changes))
    for name, parts in SEALED_PARTS.items():
        yield f"sealed, {name}", with_parts(sealer, inner, parts)
    # Whoever has a public key can seal: that is no signature.
    for name, text in {"bare claims": to_json(claims), "nothing": b"", "bytes": b"\xff"}.items():
        yield f"sealed {name}", sealer.seal(text)
        yield f"sealed {name} without cty", sealer.seal(text, sealer.header(cty=...))


def honest(maker: Maker, claims: dict[str, Any]) -> dict[str, str]:
    """Return what is good under every rule, though not as the app itself would write it."""
    return {
        "as issued": maker.token(claims),
        "the long typ": maker.token(claims, maker.header(typ="application/at+jwt")),
        "unknown members": maker.token({**claims, "x": [{"a": None}]}, maker.header(x={"y": 1})),
        "white space": maker.token(json.dumps(claims, indent="\t").encode() + b"\r\n "),
        "float times": maker.token({**claims, "exp": claims["exp"] - 0.5}),
        "not ASCII": maker.token(json.dumps({**claims, "x": "é☃𝄞"}, ensure_ascii=False).encode()),
        "two kilobytes": maker.token({**claims, "x": "x" * 2000}),
        "jku that nobody reads": maker.token(claims, maker.header(jku="http://127.0.0.1:9/")),
    }
