"""JWT authentication for Django: short signed access tokens on top of login sessions.

Importing this package reads no settings and loads no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwt_auth.tokens.claims import VerifiedClaims

__all__ = ["averify", "verify"]
__version__ = "0.1.0"


def verify(raw: str) -> VerifiedClaims:
    """Verify the access token *raw* and return its claims.

    For sockets, tasks and scripts, where no request is at hand. Checked are form,
    signature, claims, times and revocation. The user's row is not read: whether
    the user is still active shows in the revocation of the session.

    Raises:
        jwt_auth.errors.TokenNotValid: not a genuine access token of ours.
        jwt_auth.errors.TokenExpired: genuine, but past its ``exp``.
        jwt_auth.errors.SessionEnded: genuine, but its session was revoked.
        jwt_auth.errors.Unavailable: the database did not say whether it was.
        django.core.exceptions.ImproperlyConfigured: ``JWT_AUTH`` has an error.
    """
    from jwt_auth.runtime import current

    return current().authenticator.verify(raw)


async def averify(raw: str) -> VerifiedClaims:
    """See verify()."""
    from jwt_auth.runtime import current

    return await current().authenticator.averify(raw)
