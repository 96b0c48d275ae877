"""Published examples: the standards' own tokens get the standards' verdict (row 65)."""

from __future__ import annotations

from typing import Any

import pytest

from jwt_auth.errors import TokenNotValid
from jwt_auth.tokens import jws
from jwt_auth.tokens.claims import read_segment
from jwt_auth.tokens.keys import KeyRing, UnusableKey, load_key

CLAIMS = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
VECTORS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "RFC 7515 A.1, HS256": (
        {
            "kty": "oct",
            "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1"
            "Z9CAow",
        },
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        CLAIMS,
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    "RFC 7515 A.3, ES256": (
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
        "eyJhbGciOiJFUzI1NiJ9",
        CLAIMS,
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
    "RFC 8037 A.4, EdDSA": (
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        "eyJhbGciOiJFZERTQSJ9",
        "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ),
}


@pytest.mark.parametrize(("jwk", "header", "payload", "signature"), VECTORS.values(), ids=VECTORS)
def test_the_signature_holds_and_any_other_does_not(
    jwk: dict[str, Any], header: str, payload: str, signature: str
) -> None:
    key = load_key(jwk, private=False)
    signed, proof = f"{header}.{payload}".encode(), read_segment(signature)
    assert jws._holds(key, signed, proof)
    assert not jws._holds(key, signed + b"x", proof)
    for position in (0, len(proof) // 2, len(proof) - 1):
        changed = proof[:position] + bytes([proof[position] ^ 1]) + proof[position + 1 :]
        assert not jws._holds(key, signed, changed)


@pytest.mark.parametrize(("jwk", "header", "payload", "signature"), VECTORS.values(), ids=VECTORS)
def test_none_of_them_is_an_access_token(
    jwk: dict[str, Any], header: str, payload: str, signature: str
) -> None:
    ring = KeyRing(load_key(jwk, private=False))
    with pytest.raises(TokenNotValid, match="another typ"):
        jws.verify(f"{header}.{payload}.{signature}", ring, frozenset({"at+jwt"}))


def test_the_unsecured_example_is_refused() -> None:
    # RFC 7515 appendix A.5.
    ring = KeyRing(load_key(VECTORS["RFC 7515 A.1, HS256"][0], private=False))
    with pytest.raises(TokenNotValid):
        jws.verify(f"eyJhbGciOiJub25lIn0.{CLAIMS}.", ring, frozenset({"at+jwt"}))


@pytest.mark.parametrize("change", [{"use": "enc"}, {"key_ops": ["encrypt"]}])
@pytest.mark.parametrize("name", VECTORS)
def test_a_key_for_something_else_does_not_load(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(UnusableKey):
        load_key({**VECTORS[name][0], **change}, private=False)
