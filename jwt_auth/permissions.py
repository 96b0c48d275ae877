"""DRF permissions about what a token says. The functions return permission *classes*."""

from __future__ import annotations

from typing import Any, TypeGuard

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from jwt_auth.authentication import translated
from jwt_auth.errors import InsufficientScope, InsufficientUserAuthentication
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import Claims, VerifiedClaims
from jwt_auth.tokens.policy import checked_names, has_recent_login, has_role, has_scopes
from jwt_auth.users import is_active

# DRF hands this to PermissionDenied, whose dict becomes the body of the 403.
_MESSAGE = {"detail": InsufficientScope.detail, "code": InsufficientScope.code}


class _ClaimsPermission(BasePermission):
    message = _MESSAGE

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        # DRF's own answers True, which `~` would turn into a refusal of everybody.
        return self.has_permission(request, view)


def HasRole(*roles: str) -> type[BasePermission]:  # noqa: N802
    """Return a permission class: the token has at least one of *roles*.

    Nothing is asked of the database: the roles are those of the last refresh. A
    request that is authenticated by anything but our token is refused.
    """
    checked_names("role", roles)

    class _HasRole(_ClaimsPermission):
        def has_permission(self, request: Request, view: Any) -> bool:
            claims = request.auth
            return _is_ours(claims) and has_role(claims, roles)

    return _HasRole


def HasScope(*scopes: str) -> type[BasePermission]:  # noqa: N802
    """Return a permission class: the token has every one of *scopes* (RFC 6750 section 3.1).

    A request that is authenticated by anything but our token is refused.
    """
    checked_names("scope", scopes)

    class _HasScope(_ClaimsPermission):
        def has_permission(self, request: Request, view: Any) -> bool:
            claims = request.auth
            return _is_ours(claims) and has_scopes(claims, scopes)

    return _HasScope


def RecentLogin(*, minutes: float) -> type[BasePermission]:  # noqa: N802
    """Return a permission class: the login behind the token is at most *minutes* ago.

    A refresh does not make a login recent. The permission raises instead of
    returning False, because its answer is a 401 (RFC 9470 section 3): it cannot stand
    left of ``|`` or behind ``~``.
    """
    max_age = int(minutes * 60)

    class _RecentLogin(_ClaimsPermission):
        # Without one of our tokens nothing is known of a login: DRF's own words.
        message = None  # type: ignore[assignment]

        def has_permission(self, request: Request, view: Any) -> bool:
            claims = request.auth
            if not _is_ours(claims):
                return False
            if not has_recent_login(claims, max_age, current().clock()):
                raise translated(InsufficientUserAuthentication(max_age), request)
            return True

    return _RecentLogin


class ActiveUser(BasePermission):
    """The user row is there and active now: one query, before the view acts.

    For views that act before they look at the user. Elsewhere a deactivated user is
    refused when the row is touched, or when the token's session is seen to be over.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Touch the row; a lazy user that is refused raises the 401 itself."""
        user: Any = request.user
        return bool(user and user.is_authenticated and is_active(user))


def _is_ours(claims: Any) -> TypeGuard[VerifiedClaims]:
    # Only the authenticator puts Claims into request.auth, and only verified ones.
    return isinstance(claims, Claims)
