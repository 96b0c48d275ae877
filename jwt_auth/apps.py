"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class JWTAuthConfig(AppConfig):
    """Connects receivers and checks when all apps are loaded; reads no settings."""

    name = "jwt_auth"
    verbose_name = _("JWT authentication")

    def ready(self) -> None:
        """Connect what listens."""
        from jwt_auth import checks, receivers

        checks.connect()
        receivers.connect()
