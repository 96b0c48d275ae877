"""``jwt_auth_generate_key`` and ``jwt_auth_inspect``."""

from __future__ import annotations

import io
import json
import re
import stat
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError

from jwt_auth import sessions, verify
from jwt_auth.management.commands import jwt_auth_generate_key
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.tokens.keys import ALGORITHMS, load_key
from tests.attacks.forge import b64, hs256
from tests.conftest import Clock, JSONClient, private_key


def run(name: str, *arguments: str) -> str:
    """Run a command; return what it prints."""
    output = io.StringIO()
    call_command(name, *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command take the RSA key of the session with the length that it asks for."""

    def take(*, public_exponent: int, key_size: int) -> Any:
        assert public_exponent == 65537
        return private_key(f"RSA-{key_size}")

    monkeypatch.setattr(rsa, "generate_private_key", take)


@pytest.mark.usefixtures("made_once")
class TestGenerate:
    """A new key in a file."""

    @pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
    def test_the_file_is_a_key_that_signs(
        self, algorithm: str, tmp_path: Path, user: User, client: JSONClient, settings: Any
    ) -> None:
        path = tmp_path / "key"
        shown = run("jwt_auth_generate_key", "--algorithm", algorithm, "--output", str(path))
        if algorithm.startswith(("RS", "PS")):
            assert key_bits(path) == 3072
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = load_key(path, private=True)
        assert f"({algorithm}, kid {key.kid})" in shown
        assert path.read_text().strip() not in shown
        # The settings of each step, as they are printed.
        settings.JWT_AUTH = {"VERIFYING_KEYS": [path]}
        assert current().settings.ring._by_kid[key.kid].algorithm == algorithm
        settings.JWT_AUTH = {"SIGNING_KEY": path}
        assert current().settings.ring.signing.algorithm == algorithm
        assert client.whoami(client.login().json()["access_token"]).status_code == 200

    def test_it_has_a_name_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for _ in range(2):
            run("jwt_auth_generate_key", "--algorithm", "ES256")
        names = [path.name for path in tmp_path.iterdir()]
        assert len(names) == 2
        assert all(re.fullmatch(r"jwt_auth-ES256-[\w-]{8}\.pem", name) for name in names)

    def test_a_name_cannot_write_what_is_printed(self, tmp_path: Path) -> None:
        path = tmp_path / 'a"]}; \x1b[31m'
        shown = run("jwt_auth_generate_key", "--algorithm", "ES256", "--output", str(path))
        assert "\x1b" not in shown
        assert shown.count(f"Path({str(path)!r})") == 3

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        path.write_text("mine")
        with pytest.raises(CommandError, match="not overwritten"):
            run("jwt_auth_generate_key", "--algorithm", "ES256", "--output", str(path))
        assert path.read_text() == "mine"
        missing = str(tmp_path / "nowhere" / "key.pem")
        with pytest.raises(CommandError, match="cannot be written"):
            run("jwt_auth_generate_key", "--algorithm", "ES256", "--output", missing)

    def test_none_is_no_algorithm(self) -> None:
        with pytest.raises(CommandError):
            run("jwt_auth_generate_key", "--algorithm", "none")


def key_bits(path: Path) -> int:
    """Return the length of the RSA key in *path*."""
    text = path.read_bytes()
    if text.startswith(b"{"):
        return 8 * len(urlsafe_b64decode(json.loads(text)["n"] + "=="))
    key = serialization.load_pem_private_key(text, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.key_size


ROTATIONS = [
    (old, new)
    for old in (None, "HS256", "HS512", "PS256", "ES256")
    for new in ("HS512", "PS384", "ES256", "EdDSA")
    if old != new
]


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a generated key file for each algorithm of `ROTATIONS`."""
    folder = tmp_path_factory.mktemp("keys")
    algorithms = sorted({one for pair in ROTATIONS for one in pair if one is not None})
    files = {algorithm: folder / algorithm for algorithm in algorithms}
    # Two keys for RSA, and neither of the command's length, which takes long to make.
    bits = {"PS256": 2048, "PS384": 2056}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rsa, "generate_private_key", lambda *, key_size, **_: private_key(f"RSA-{key_size}")
        )
        for algorithm, path in files.items():
            patch.setattr(jwt_auth_generate_key, "RSA_BITS", bits.get(algorithm))
            run("jwt_auth_generate_key", "--algorithm", algorithm, "--output", str(path))
    return files


@pytest.mark.parametrize(("old", "new"), ROTATIONS)
def test_the_printed_steps_refuse_no_token(
    old: str | None, new: str, key_files: dict[str, Path], user: User, settings: Any
) -> None:
    before = None if old is None else key_files[old]
    after = key_files[new]
    steps = [
        {"SIGNING_KEY": before},
        {"SIGNING_KEY": before, "VERIFYING_KEYS": [after]},
        {"SIGNING_KEY": after, "VERIFYING_KEYS": [before]},
        {"SIGNING_KEY": after},
    ]
    tokens = []
    for step in steps:
        settings.JWT_AUTH = step
        tokens.append(sessions.start(user).access_token)
    # In a rolling deploy two steps stand side by side.
    for made, taken in ((0, 1), (1, 0), (0, 2), (1, 2), (2, 1), (2, 3), (3, 2)):
        settings.JWT_AUTH = steps[taken]
        assert verify(tokens[made]).subject == str(user.pk)


class TestInspect:
    """What a token is, and why it would be refused."""

    def test_a_good_one(self, user: User, clock: Clock) -> None:
        pair = sessions.start(user)
        shown = run("jwt_auth_inspect", pair.access_token)
        assert "alg: 'HS256'" in shown
        assert f"sid: '{pair.session_id}'" in shown
        assert "exp: 1803902700  (2027-03-01 12:05:00 UTC)" in shown
        assert "accepted until (2027-03-01 12:05:00 UTC)" in shown
        assert pair.access_token.split(".")[2] not in shown

    def test_why_it_would_be_refused(self, user: User, clock: Clock, settings: Any) -> None:
        pair = sessions.start(user)
        head, claims, signature = pair.access_token.split(".")
        flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
        forged = hs256().token({"sub": "\x1b[31m1", "exp": 1e308, "x": "y" * 500})
        for raw, reason in {
            f"{head}.{claims}.{flipped}": "token_not_valid (the signature does not match)",
            forged: "token_not_valid (no key of this kid and alg)",
            "a.b.c": "not strict JSON in base64url",
            "x": "Not a compact JWS: it has 1 parts",
        }.items():
            shown = run("jwt_auth_inspect", raw)
            assert reason in shown
            assert "\x1b" not in shown
            assert all(len(line) < 250 for line in shown.splitlines())
        clock.move(minutes=5)
        assert "token_expired (past its exp)" in run("jwt_auth_inspect", pair.access_token)
        sessions.end_all(user)
        clock.move(minutes=-5)
        assert "session_ended (revoked)" in run("jwt_auth_inspect", pair.access_token)

    def test_a_refresh_token(self, user: User, clock: Clock) -> None:
        pair = sessions.start(user)
        raw = pair.refresh_token or ""
        shown = run("jwt_auth_inspect", raw)
        assert "genuine refresh token of generation 0" in shown
        assert "lives until 2027-03-15 12:00:00 UTC" in shown
        assert "refresh_not_valid" in run("jwt_auth_inspect", raw[:-1])
        clock.move(days=15)
        assert "has run out" in run("jwt_auth_inspect", raw)
        clock.move(days=-14)
        sessions.end_all(user)
        assert "was ended 2027-03-02 12:00:00 UTC: logout_all" in run("jwt_auth_inspect", raw)
        LoginSession.objects.all().delete()
        assert "not in the database" in run("jwt_auth_inspect", raw)

    def test_a_token_from_standard_input(self, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        line = f"{sessions.start(user).access_token}\n".encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line)))
        assert "accepted" in run("jwt_auth_inspect", "-")

    def test_standard_input_that_is_no_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe.")))
        assert "Not a compact JWS" in run("jwt_auth_inspect", "-")

    def test_nothing_is_shown_of_what_is_too_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(CommandError, match="at most 8192"):
            run("jwt_auth_inspect", "a" * 8193)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a" * 100_000)))
        with pytest.raises(CommandError, match="at most 8192"):
            run("jwt_auth_inspect", "-")

    def test_broken_settings_are_said_before_anything_else(self, settings: Any) -> None:
        settings.JWT_AUTH = {"SIGNING_KEY": "short"}
        with pytest.raises(CommandError, match="SIGNING_KEY"):
            run("jwt_auth_inspect", "a.b.c")

    def test_an_encrypted_token(self, user: User, settings: Any) -> None:
        settings.JWT_AUTH = {"ENCRYPTION_KEY": "0123456789" * 4}
        raw = sessions.start(user).access_token
        shown = run("jwt_auth_inspect", raw)
        assert "alg: 'dir'" in shown
        assert f"sub: '{user.pk}'" in shown
        assert "accepted until" in shown
        settings.JWT_AUTH = {"DECRYPTION_KEYS": ["9876543210" * 4]}
        assert "no key of this kid and alg opens it" in run("jwt_auth_inspect", raw)
        settings.JWT_AUTH = {}
        shown = run("jwt_auth_inspect", raw)
        assert "no key decrypts" in shown
        assert "sub:" not in shown

    def test_a_failing_database(
        self, user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> None:
            raise OperationalError("gone away")

        pair = sessions.start(user)
        monkeypatch.setattr("django.db.models.query.QuerySet._fetch_all", fail)
        assert "cannot be judged" in run("jwt_auth_inspect", pair.access_token)
        assert "cannot be judged" in run("jwt_auth_inspect", pair.refresh_token or "")

    def test_deep_and_hostile_headers(self) -> None:
        deep = b64(b'{"a":' * 400 + b"1" + b"}" * 400)
        assert "not strict JSON" in run("jwt_auth_inspect", f"{deep}.{deep}.x")
