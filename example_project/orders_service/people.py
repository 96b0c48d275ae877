"""Who another service's tokens speak of, as far as this one is concerned."""

from __future__ import annotations

from typing import Any

from jwt_auth.tokens.claims import VerifiedClaims
from jwt_auth.users import TokenUser


def person(claims: VerifiedClaims) -> tuple[TokenUser, dict[str, Any]]:
    """Return the user of a token of the notes, and the roles that count here.

    Another issuer's roles count for nothing unless they are mapped: an editor of notes may
    ship orders, and that is all.
    """
    roles = ["shippers"] if "editors" in claims.roles else []
    return TokenUser(claims), {"roles": roles}
