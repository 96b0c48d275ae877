"""Refresh tokens: opaque, authenticated by a MAC, and nowhere stored.

``jwtr_`` and 76 characters of base64url: version (1 byte), key id (4), handle
(16), generation (4), MAC (32). The handle is random and names the session, whose
id is derived from it one-way: neither the table nor ``SECRET_KEY`` nor both make a
token. The MAC is checked before anything is looked up, so a forgery costs no query.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from jwt_auth.errors import RefreshNotValid

# A fixed prefix lets secret scanners find tokens that went astray.
PREFIX = "jwtr_"
VERSION = 1
_BODY = struct.Struct(">B4s16sI")
_KEY_ID = slice(1, 5)
# 57 bytes are 76 characters without padding or spare bits: one spelling a token.
_FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{76}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a genuine refresh token says."""

    handle: bytes
    generation: int

    def __repr__(self) -> str:
        return f"<RefreshToken of generation {self.generation}>"

    @property
    def session_id(self) -> UUID:
        """The id of the session; the handle cannot be found from it."""
        digest = hashlib.sha256(self.handle).digest()
        # Version bits set: MariaDB's UUID type refuses arbitrary bytes.
        return UUID(bytes=digest[:16], version=4)

    @classmethod
    def first(cls) -> RefreshToken:
        """Return the first token of a new session."""
        return cls(secrets.token_bytes(16), 0)

    def of_generation(self, generation: int) -> RefreshToken:
        """Return the token of the same session in another generation."""
        return RefreshToken(self.handle, generation)


class RefreshTokens:
    """Mints and reads refresh tokens under keys made for this purpose alone.

    The first key mints; all of them read.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = [(hmac.digest(key, b"key id", "sha256")[:4], key) for key in keys]

    def mint(self, token: RefreshToken) -> str:
        """Return *token* as the text that a client keeps."""
        key_id, key = self._keys[0]
        body = _BODY.pack(VERSION, key_id, token.handle, token.generation)
        return PREFIX + urlsafe_b64encode(body + hmac.digest(key, body, "sha256")).decode("ascii")

    def read(self, raw: str) -> RefreshToken:
        """Read *raw* if it is genuine. Whether its session lives is not looked at.

        Raises:
            RefreshNotValid: malformed, forged, or minted under a forgotten key.
        """
        if not isinstance(raw, str) or _FORM.fullmatch(raw) is None:
            raise RefreshNotValid("malformed")
        content = urlsafe_b64decode(raw.removeprefix(PREFIX))
        body, mac = content[: _BODY.size], content[_BODY.size :]
        for key_id, key in self._keys:
            if hmac.compare_digest(body[_KEY_ID], key_id) and hmac.compare_digest(
                hmac.digest(key, body, "sha256"), mac
            ):
                version, _, handle, generation = _BODY.unpack(body)
                if version != VERSION:
                    raise RefreshNotValid("another version")
                return RefreshToken(handle, generation)
        raise RefreshNotValid("the MAC does not match")
