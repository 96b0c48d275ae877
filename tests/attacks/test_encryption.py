"""Rows 166 to 174: encrypted tokens hide, and prove nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe as joserfc_jwe

from jwt_auth import sessions, verify
from jwt_auth.conf import read_settings
from jwt_auth.errors import TokenNotValid
from jwt_auth.runtime import current
from tests.attacks.conftest import Target
from tests.attacks.corpus import SEALED_HEADERS, SEALED_PARTS, with_parts
from tests.attacks.forge import b64, hs256
from tests.attacks.sealing import CONTENT_KEY, SEALERS, Sealer, header_of, parts_of
from tests.conftest import JSONClient, private_pem, public_pem
from tests.remote.provider import public_jwk

SIGNING = hs256()


@pytest.fixture(params=SEALERS)
def sealer(request: Any, settings: Any) -> Sealer:
    """Return the sealer for a project that demands encrypted tokens."""
    one = SEALERS[request.param]()
    settings.JWT_AUTH = {"SIGNING_KEY": SIGNING.setting, "ENCRYPTION_KEY": one.setting}
    return one


@pytest.fixture
def target(sealer: Sealer, user: Any, client: JSONClient, caplog: Any) -> Target:
    """Return the project under attack; the sealer can make a token that passes."""

    class Sealed:
        """Signs as the project does, and seals."""

        def token(self, claims: Any) -> str:
            """Return a nested token."""
            return sealer.seal(SIGNING.token(claims))

    return Target(Sealed(), user, client, caplog)  # type: ignore[arg-type]


def test_what_we_hand_out_is_encrypted(sealer: Sealer, user: Any) -> None:
    raw = sessions.start(user).access_token
    header = header_of(raw)
    epk = header.pop("epk", None)
    assert header == {"alg": sealer.algorithm, "enc": "A256GCM", "kid": sealer.kid, "cty": "JWT"}
    assert (epk is not None) == (sealer.algorithm == "ECDH-ES+A256KW")
    assert str(verify(raw).subject) == str(user.pk)
    assert str(user.pk) not in parts_of(raw)


def test_joserfc_reads_what_we_make(user: Any, settings: Any) -> None:
    settings.JWT_AUTH = {"ENCRYPTION_KEY": SEALERS["dir"]().setting}
    from joserfc.jwk import OctKey

    raw = sessions.start(user).access_token
    opened = joserfc_jwe.decrypt_compact(
        raw, OctKey.import_key(CONTENT_KEY), algorithms=["dir", "A256GCM"]
    )
    assert (opened.plaintext or b"").count(b".") == 2


def test_a_plain_token_is_refused_where_encryption_is_demanded(target: Target) -> None:
    target.refuses(SIGNING.token(target.claims))


def test_strangers_who_encrypt_to_our_key_prove_nothing(target: Target, sealer: Sealer) -> None:
    claims = json.dumps(target.claims)
    header = b64(b'{"alg":"none","typ":"at+jwt"}')
    unsigned = f"{header}.{b64(claims.encode())}."
    for plaintext in (claims, unsigned, "", "a.b.c", b"\xff\xfe", "x" * 100):
        target.refuses(sealer.seal(plaintext))
        target.refuses(sealer.seal(plaintext, sealer.header(cty=...)))
    other = SIGNING.token(target.claims, sign=lambda signed: b"\0" * 32)
    target.refuses(sealer.seal(other))


def test_what_is_too_long_is_not_opened(target: Target, sealer: Sealer) -> None:
    ring = current().access_tokens.encryption
    assert ring is not None
    inner = SIGNING.token(target.claims)
    assert ring.open(sealer.seal(inner)) == inner
    # Encrypted as it should be, and too long.
    long = sealer.seal(inner + "x" * 7000)
    assert len(long) > 8192
    for hostile in (long, sealer.seal(inner).encode(), None, 7):
        with pytest.raises(TokenNotValid):
            ring.open(hostile)  # type: ignore[arg-type]


def test_whatever_the_library_raises_is_a_refusal(
    target: Target,
    sealer: Sealer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = sealer.seal(SIGNING.token(target.claims))

    def fail(error: BaseException) -> Any:
        def decrypt(*args: Any, **kwargs: Any) -> Any:
            raise error

        return decrypt

    with monkeypatch.context() as patched:
        patched.setattr(joserfc_jwe, "decrypt_compact", fail(RuntimeError(raw)))
        caplog.clear()
        with pytest.raises(TokenNotValid):
            verify(raw)
        assert "RuntimeError" in caplog.text
        assert raw not in caplog.text
        patched.setattr(joserfc_jwe, "decrypt_compact", fail(MemoryError()))
        with pytest.raises(MemoryError):
            verify(raw)
    target.accepts(raw)


def test_a_token_is_nested_once(target: Target, sealer: Sealer) -> None:
    target.refuses(sealer.seal(sealer.seal(SIGNING.token(target.claims))))


def seconds_to_refuse(raw: str) -> float:
    """Return how long a refusal takes the processor: the least of several."""
    times = []
    for _ in range(5):
        began = time.thread_time()
        with pytest.raises(TokenNotValid):
            verify(raw)
        times.append(time.thread_time() - began)
    return min(times)


@pytest.mark.parametrize("changes", SEALED_HEADERS.values(), ids=SEALED_HEADERS)
def test_the_header_is_ours(target: Target, sealer: Sealer, changes: dict[str, Any]) -> None:
    raw = sealer.seal(SIGNING.token(target.claims), sealer.header(**changes))
    assert seconds_to_refuse(raw) < 0.05
    target.refuses(raw)


POINT = {"kty": "EC", "crv": "P-256", "x": b64(b"\1" * 32), "y": b64(b"\1" * 32)}


@pytest.mark.parametrize(
    "epk",
    [
        ...,
        None,
        {},
        "x",
        {"kty": "EC", "crv": "P-256"},
        ["x"],
        POINT,
        {**POINT, "d": b64(b"\1" * 32)},
        {**POINT, "crv": "P-384"},
        {**POINT, "x": 1},
        {**POINT, "x": b64(b"\1" * 3000)},
    ],
)
def test_an_ephemeral_key_is_a_key(user: Any, client: JSONClient, settings: Any, epk: Any) -> None:
    sealer = SEALERS["EC"]()
    settings.JWT_AUTH = {"SIGNING_KEY": SIGNING.setting, "ENCRYPTION_KEY": sealer.setting}
    header = {**sealer.header(), "epk": epk}
    if epk is ...:
        del header["epk"]
    raw = sealer.seal("x", json.dumps(header).encode())
    assert client.whoami(raw).json()["code"] == "token_not_valid"


@pytest.mark.parametrize("parts", SEALED_PARTS.values(), ids=SEALED_PARTS)
def test_every_part_counts(target: Target, sealer: Sealer, parts: dict[str, bytes]) -> None:
    raw = with_parts(sealer, SIGNING.token(target.claims), parts)
    assert seconds_to_refuse(raw) < 0.05
    target.refuses(raw)


def test_any_change_is_noticed(target: Target, sealer: Sealer) -> None:
    good = sealer.seal(SIGNING.token(target.claims))
    segments = parts_of(good)
    for position, segment in enumerate(segments):
        if not segment:
            continue
        changed = ("B" if segment[0] == "A" else "A") + segment[1:]
        target.refuses(".".join([*segments[:position], changed, *segments[position + 1 :]]))
    for spelled in (f"{good}=", f" {good}", f"{good}.", f"{good}.x", good.replace(".", "..", 1)):
        with pytest.raises(TokenNotValid):
            verify(spelled)


def test_off_means_off(user: Any, client: JSONClient, settings: Any, sealer: Sealer) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": SIGNING.setting}
    inner = sessions.start(user).access_token
    assert client.whoami(inner).status_code == 200
    assert client.whoami(sealer.seal(inner)).json()["code"] == "token_not_valid"


def test_decryption_keys_alone_take_both(
    user: Any, client: JSONClient, settings: Any, sealer: Sealer
) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": SIGNING.setting, "DECRYPTION_KEYS": [sealer.setting]}
    inner = sessions.start(user).access_token
    assert inner.count(".") == 2
    assert client.whoami(inner).status_code == 200
    assert client.whoami(sealer.seal(inner)).status_code == 200


def test_none_among_the_decryption_keys_is_the_step_between(
    user: Any, client: JSONClient, settings: Any, sealer: Sealer
) -> None:
    settings.JWT_AUTH = {**settings.JWT_AUTH, "DECRYPTION_KEYS": [None]}
    sealed = sessions.start(user).access_token
    assert sealed.count(".") == 4
    assert client.whoami(sealed).status_code == 200
    opened = current().access_tokens.encryption.open(sealed)  # type: ignore[union-attr]
    assert client.whoami(opened).status_code == 200


def failures(target: Target, sealer: Sealer) -> list[str]:
    """Return tokens that fail as their key is unwrapped, by their tag, and by their signature."""
    inner = SIGNING.token(target.claims)
    wrapped = b"\1" * (256 if sealer.algorithm.startswith("RSA") else 40)
    forged = SIGNING.token(target.claims, sign=lambda signed: b"\0" * 32)
    return [
        sealer.seal(inner, wrapped=wrapped),
        sealer.seal(inner, tag=b"\0" * 16),
        sealer.seal(forged),
    ]


def test_every_failure_is_answered_alike(target: Target, sealer: Sealer) -> None:
    answers = {
        target.refuses_header(f"Bearer {raw}", "token_not_valid").content
        for raw in [*failures(target, sealer), "x.y.z"]
    }
    assert len(answers) == 1


@pytest.mark.usefixtures("quiet_heap")
def test_every_failure_takes_about_as_long(target: Target, sealer: Sealer) -> None:
    # Over a network a millisecond more or less is noise (RFC 7516 section 11.5).
    times = [seconds_to_refuse(raw) for raw in failures(target, sealer)]
    assert max(times) - min(times) < 0.001


def test_a_key_that_is_taken_out_ends_its_tokens_at_once(
    user: Any, client: JSONClient, settings: Any, sealer: Sealer
) -> None:
    raw = sessions.start(user).access_token
    assert client.whoami(raw).status_code == 200
    settings.JWT_AUTH = {
        "SIGNING_KEY": SIGNING.setting,
        "ENCRYPTION_KEY": "x" * 20 + "abcdefghijkl",
    }
    assert client.whoami(raw).json()["code"] == "token_not_valid"


def test_a_token_that_gets_too_long_is_not_made(user: Any, sealer: Sealer) -> None:
    issued = current().access_tokens
    assert issued.encryption is not None
    with pytest.raises(ValueError, match="longer"):
        issued.encryption.seal("x" * 7000)


UNUSABLE: dict[str, tuple[Any, str]] = {
    "a short secret": ("x" * 31, "E005"),
    "31 bytes that nobody guesses": ({"kty": "oct", "k": b64(CONTENT_KEY[:31])}, "E005"),
    "a public key": (public_pem(private_pem("P-256")), "E005"),
    "a public JWK": (public_jwk(private_pem("P-256")), "E005"),
    "Ed25519": (private_pem("Ed25519"), "E005"),
    "a JWK for signatures": ({"kty": "oct", "k": b64(CONTENT_KEY), "use": "sig"}, "E005"),
    "a JWK for other operations": (
        {"kty": "oct", "k": b64(CONTENT_KEY), "key_ops": ["sign"]},
        "E005",
    ),
    "a number": (7, "E005"),
    "a secret that can be guessed": ("a" * 40, "E005"),
    "another alg": ({"kty": "oct", "k": b64(CONTENT_KEY), "alg": "A256KW"}, "E005"),
    "SECRET_KEY": (
        "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ",
        "E014",
    ),
    "the signing key": (SIGNING.setting, "E014"),
}


@pytest.mark.parametrize(("form", "number"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("name", ["ENCRYPTION_KEY", "DECRYPTION_KEYS"])
def test_what_cannot_encrypt_is_an_error(settings: Any, name: str, form: Any, number: str) -> None:

    value = form if name == "ENCRYPTION_KEY" else [form]
    settings.JWT_AUTH = {"SIGNING_KEY": SIGNING.setting, name: value}
    problems = read_settings()[1]
    assert [one.id for one in problems] == [f"jwt_auth.{number}"]
    assert b64(CONTENT_KEY) not in str(problems)


def test_an_rsa_key_that_signs_does_not_encrypt(settings: Any) -> None:

    pem = private_pem("RSA-2048")
    settings.JWT_AUTH = {"SIGNING_KEY": pem, "ENCRYPTION_KEY": pem}
    assert [one.id for one in read_settings()[1]] == ["jwt_auth.E014"]


def test_a_longer_secret_opens_its_own(user: Any, client: JSONClient, settings: Any) -> None:
    settings.JWT_AUTH = {"ENCRYPTION_KEY": "a secret that is much longer than thirty-two bytes"}
    assert client.whoami(sessions.start(user).access_token).status_code == 200


def test_two_keys_of_one_name_are_an_error(settings: Any) -> None:

    key = {"kty": "oct", "k": b64(CONTENT_KEY), "kid": "e1"}
    settings.JWT_AUTH = {"ENCRYPTION_KEY": key, "DECRYPTION_KEYS": [key]}
    assert [one.id for one in read_settings()[1] if one.is_fatal] == ["jwt_auth.E006"]


def test_without_the_extra_it_is_an_error(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import jwt_auth.tokens

    monkeypatch.delattr(jwt_auth.tokens, "jwe", raising=False)
    monkeypatch.setitem(sys.modules, "jwt_auth.tokens.jwe", None)
    settings.JWT_AUTH = {"ENCRYPTION_KEY": "x" * 40}
    [problem] = [one for one in read_settings()[1] if one.is_fatal]
    assert problem.id == "jwt_auth.E007"
    assert "[jwe]" in problem.message


def test_an_rsa_key_of_odd_length_opens_its_own(user: Any, settings: Any) -> None:
    settings.JWT_AUTH = {"ENCRYPTION_KEY": private_pem("RSA-2052")}
    assert verify(sessions.start(user).access_token).subject == str(user.pk)


def test_an_rsa_key_that_is_too_long_is_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is moved, for a longer key takes a minute to make.
    monkeypatch.setattr("jwt_auth.tokens.jwe.LONGEST_RSA_KEY", 2047)
    settings.JWT_AUTH = {"ENCRYPTION_KEY": private_pem("RSA-2048")}
    [problem] = [one for one in read_settings()[1] if one.is_fatal]
    assert "at most 2047 bits" in problem.message


def test_a_jwk_file_encrypts(user: Any, settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"kty": "oct", "k": b64(CONTENT_KEY), "kid": "one", "use": "enc"}))
    settings.JWT_AUTH = {"ENCRYPTION_KEY": path}
    raw = sessions.start(user).access_token
    assert header_of(raw)["kid"] == "one"
    assert verify(raw).subject == str(user.pk)
