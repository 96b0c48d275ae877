"""Another issuer for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.remote.provider import Provider, running


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Return another issuer that is up."""
    with running(Provider()) as one:
        yield one


@pytest.fixture
def trusted(provider: Provider, settings: Any) -> Provider:
    """Return another issuer that the project trusts."""
    # http is for development.
    settings.DEBUG = True
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings()}
    return provider
