"""A genuine token that was damaged in any way is refused; so is what is signed and wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_auth import sessions, verify
from jwt_auth.errors import RefreshNotValid, Rejected, TokenExpired, TokenNotValid
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import Claims
from jwt_auth.tokens.refresh import RefreshToken
from tests.attacks.forge import FORGES, Forge
from tests.attacks.sealing import SEALERS
from tests.conftest import NOW, Clock
from tests.fuzzing.strategies import changed, damaged, examples, json_values, near_values

pytestmark = pytest.mark.django_db

KINDS = [*FORGES, "HS256 in dir", "ES256 in RSA", "EdDSA in EC"]
HEADER_MEMBERS = ["crit", "b64", "cty", "jwk", "jku", "x5c", "zip", "enc"]
CLAIMS = ["nbf", "cnf", "aud", "iss", "auth_time", "amr", "roles", "scope"]


@pytest.fixture
def maker(request: Any, settings: Any, clock: Clock) -> Forge:
    """Return who can sign for the project, which has the kind of key that the test names."""
    algorithm, _, sealed = getattr(request, "param", "HS256").partition(" in ")
    maker = FORGES[algorithm]()
    settings.JWT_AUTH = {"SIGNING_KEY": maker.setting}
    if sealed:
        settings.JWT_AUTH["ENCRYPTION_KEY"] = SEALERS[sealed]().setting
    return maker


@pytest.fixture
def genuine(maker: Forge, user: Any) -> list[str]:
    """Return access tokens that verify, and are remembered."""
    found = [sessions.start(user).access_token for _ in range(3)]
    for raw in found:
        verify(raw)
    return found


@pytest.mark.parametrize("maker", KINDS, indirect=True)
@given(data=st.data())
@examples(60)
def test_a_damaged_access_token_verifies_only_if_it_is_one_again(
    data: st.DataObject, genuine: list[str]
) -> None:
    raw = data.draw(damaged(genuine))
    if raw in genuine:
        verify(raw)
        return
    with pytest.raises(TokenNotValid):
        verify(raw)
    with pytest.raises(TokenNotValid):
        current().authenticator.unsafe_verify_expired(raw)


@given(data=st.data())
@examples(200)
def test_a_damaged_refresh_token_is_read_only_if_it_is_one_again(data: st.DataObject) -> None:
    tokens, read = current().refresh_tokens, RefreshToken(bytes(range(16)), 0)
    genuine = [tokens.mint(read.of_generation(one)) for one in range(3)]
    raw = data.draw(damaged(genuine))
    if raw in genuine:
        assert tokens.read(raw).handle == read.handle
        return
    with pytest.raises(RefreshNotValid):
        tokens.read(raw)


def verdict(raw: str) -> Claims | Rejected:
    """Verify *raw*, which has our signature: the claims, or one of two refusals."""
    try:
        return verify(raw)
    except (TokenNotValid, TokenExpired) as refusal:
        return refusal


def good_claims(genuine: list[str]) -> dict[str, Any]:
    """Return claims that a maker may sign."""
    return dict(verify(genuine[0]))


@given(payload=json_values)
@examples(150)
def test_any_json_under_a_right_signature_is_refused_unless_it_is_a_claim_set(
    payload: Any, maker: Forge
) -> None:
    # The session's id alone has 36 letters: nothing is found by chance.
    assert isinstance(verdict(maker.token(payload)), TokenNotValid)


@given(payload=st.binary(max_size=100))
@examples(100)
def test_any_bytes_under_a_right_signature_are_refused(payload: bytes, maker: Forge) -> None:
    assert isinstance(verdict(maker.token(payload)), TokenNotValid)
    assert isinstance(verdict(maker.token(b"{}", payload)), TokenNotValid)


@pytest.mark.parametrize("maker", FORGES, indirect=True)
@given(data=st.data())
@examples(60)
def test_changed_claims_under_a_right_signature_are_taken_as_they_are_or_refused(
    data: st.DataObject, maker: Forge, genuine: list[str]
) -> None:
    payload = data.draw(changed(good_claims(genuine), CLAIMS))
    found = verdict(maker.token(payload))
    if isinstance(found, TokenExpired):
        assert payload["exp"] <= NOW.timestamp()
    elif isinstance(found, Claims):
        assert dict(found) == payload
        assert {"sub", "exp", "iat", "jti", "sid"} <= payload.keys()
        assert payload.keys().isdisjoint({"iss", "aud", "cnf"})
        assert payload["exp"] > NOW.timestamp()
        # What a view may ask for.
        assert all(isinstance(one, str) for one in (*found.roles, *found.scopes))
        assert found.authenticated_at is None or found.authenticated_at.tzinfo is not None
        json.dumps(dict(found))


@pytest.mark.parametrize("maker", FORGES, indirect=True)
@given(data=st.data())
@examples(60)
def test_a_changed_header_under_a_right_signature_is_refused_if_it_says_something_else(
    data: st.DataObject, maker: Forge, genuine: list[str]
) -> None:
    header = data.draw(changed(maker.header(), HEADER_MEMBERS))
    found = verdict(maker.token(good_claims(genuine), header))
    if isinstance(found, Claims):
        assert header["alg"] == maker.algorithm
        assert header["typ"] == "at+jwt"
        assert header.get("kid", maker.kid) == maker.kid
        assert header.keys().isdisjoint({"crit", "b64", "cty"})


@given(raw=near_values)
@examples(100)
def test_whatever_is_no_token_is_refused(raw: Any, maker: Forge) -> None:
    with pytest.raises(TokenNotValid):
        verify(raw)
    with pytest.raises(RefreshNotValid):
        current().refresh_tokens.read(raw)
    with pytest.raises(TokenNotValid):
        verify(str(raw))
