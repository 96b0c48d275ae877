"""What keeps examples repeatable."""

from __future__ import annotations

import pytest

from jwt_auth.tokens.refresh import RefreshToken


@pytest.fixture
def same_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every session the same refresh token: what is drawn may depend on it."""
    first = RefreshToken(bytes(range(16)), 0)
    monkeypatch.setattr(RefreshToken, "first", lambda: first)
