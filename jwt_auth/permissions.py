"""DRF permissions about what a token says. The functions return permission *classes*."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from jwt_auth.errors import InsufficientScope
from jwt_auth.tokens.claims import Claims

# DRF hands this to PermissionDenied, whose dict becomes the body of the 403.
_MESSAGE = {"detail": InsufficientScope.detail, "code": InsufficientScope.code}


def HasRole(*roles: str) -> type[BasePermission]:  # noqa: N802
    """Return a permission class: the token has at least one of *roles*.

    Nothing is asked of the database: the roles are those of the last refresh. A
    request that is authenticated by anything but our token is refused.
    """
    wanted = frozenset(roles)

    class _HasRole(BasePermission):
        message = _MESSAGE

        def has_permission(self, request: Request, view: Any) -> bool:
            claims = request.auth
            return isinstance(claims, Claims) and not wanted.isdisjoint(claims.roles)

    return _HasRole


def HasScope(*scopes: str) -> type[BasePermission]:  # noqa: N802
    """Return a permission class: the token has every one of *scopes* (RFC 6750 section 3.1).

    A request that is authenticated by anything but our token is refused.
    """
    wanted = frozenset(scopes)

    class _HasScope(BasePermission):
        message = _MESSAGE

        def has_permission(self, request: Request, view: Any) -> bool:
            claims = request.auth
            return isinstance(claims, Claims) and wanted <= claims.scopes

    return _HasScope


class ActiveUser(BasePermission):
    """The user row is there and active now: one query, before the view acts.

    For views that act before they look at the user. Elsewhere a deactivated user is
    refused when the row is touched, or when the token's session is seen to be over.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Touch the row; a lazy user that is refused raises the 401 itself."""
        user: Any = request.user
        return bool(user and user.is_authenticated and user.is_active)
