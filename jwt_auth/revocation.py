"""Which sessions were ended before their time."""

from __future__ import annotations

from jwt_auth.errors import SessionEnded
from jwt_auth.models import LoginSession, LoginSessionQuerySet, database_answers
from jwt_auth.tokens.claims import VerifiedClaims


class Revocations:
    """Asks the database about each session: one query by primary key."""

    def check(self, claims: VerifiedClaims) -> None:
        """Refuse claims whose session was revoked.

        A session without a row is not revoked: only ended ones are ever deleted.

        Raises:
            SessionEnded: it was.
            Unavailable: the database did not say.
        """
        with database_answers():
            revoked = self._query(claims).exists()
        if revoked:
            raise SessionEnded("revoked")

    async def acheck(self, claims: VerifiedClaims) -> None:
        """See check()."""
        with database_answers():
            revoked = await self._query(claims).aexists()
        if revoked:
            raise SessionEnded("revoked")

    def _query(self, claims: VerifiedClaims) -> LoginSessionQuerySet:
        sessions = LoginSession.objects.on_primary().named(claims.session_id)
        return sessions.filter(revoked_at__isnull=False)
