"""The admin of login sessions: to look, and to end them."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current

security_logger = logging.getLogger("jwt_auth.security")


class StateFilter(admin.SimpleListFilter):
    """Live sessions, ended ones, and those that ran out."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("live", _("live")), ("ended", _("ended")), ("expired", _("expired"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        runtime = current()
        now, idle_limit = runtime.clock(), runtime.settings.refresh_lifetime
        found: Any = queryset
        if self.value() == "ended":
            return queryset.filter(revoked_at__isnull=False)
        if self.value() == "expired":
            over: QuerySet[Any] = found.over(now, idle_limit).filter(revoked_at__isnull=True)
            return over
        if self.value() == "live" and idle_limit is not None:
            live: QuerySet[Any] = found.live(now, idle_limit)
            return live
        return queryset


@admin.register(LoginSession)
class LoginSessionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows sessions and ends them. Nothing is added, changed or deleted by hand.

    Ending asks for the permission ``jwt_auth.change_loginsession``.
    """

    list_display = ["user", "device", "ip", "created_at", "rotated_at", "state"]
    list_display_links = ["device", "created_at"]
    list_filter = [StateFilter, "created_at"]
    list_select_related = ["user"]
    ordering = ["-rotated_at"]
    show_full_result_count = False
    actions = ["end"]
    # Named one by one: the mark of the password is nobody's business.
    fields = (
        "id",
        "user",
        "state",
        "device",
        "ip",
        "user_agent",
        "amr",
        "created_at",
        "rotated_at",
        "expires",
        "revoked_at",
        "revoked_reason",
    )
    readonly_fields = fields

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [f"user__{get_user_model().USERNAME_FIELD}", "device", "ip"]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # A filter in the query string would tell the mark of a password bit by bit.
        return lookup == StateFilter.parameter_name or lookup.startswith("created_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Tell whether sessions may be ended."""
        return bool(request.user.has_perm("jwt_auth.change_loginsession"))

    @admin.display(description=_("state"))
    def state(self, session: LoginSession) -> Any:
        """Say whether a refresh would still take the session."""
        runtime = current()
        idle_limit = runtime.settings.refresh_lifetime
        if session.revoked_at is not None:
            return _("ended")
        if idle_limit is not None and runtime.clock() >= session.ends_at(idle_limit):
            return _("expired")
        return _("live")

    @admin.display(description=_("expires"))
    def expires(self, session: LoginSession) -> str:
        """Say when the session ends if it is not used again: the nearer of its two limits."""
        idle_limit = current().settings.refresh_lifetime
        ends_at = session.expires_at if idle_limit is None else session.ends_at(idle_limit)
        return localize(localtime(ends_at))

    @admin.action(description=_("End the selected sessions"), permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[LoginSession]) -> None:
        """End the sessions, and leave an entry in the admin's log for each.

        Refresh tokens end at once, access tokens within a second.
        """
        administrator: Any = request.user.pk
        live = LoginSession.objects.on_primary().filter(revoked_at__isnull=True)
        chosen = list(live.filter(pk__in=queryset.values("pk")).values_list("pk", flat=True))
        ended = 0
        for first in range(0, len(chosen), sessions.BATCH):
            batch = LoginSession.objects.filter(pk__in=chosen[first : first + sessions.BATCH])
            ended += sessions.end_many(batch, sessions.ADMINISTRATION, request)
            LogEntry.objects.log_actions(
                administrator,
                # Another request may have ended some of them first.
                batch.on_primary().filter(revoked_reason=sessions.ADMINISTRATION),
                CHANGE,
                f"Ended: {sessions.ADMINISTRATION}.",
            )
        security_logger.warning(
            "User %s ended %d sessions in the admin: %s.",
            ascii(administrator)[:100],
            ended,
            sessions.ADMINISTRATION,
        )
        text = ngettext("%d session was ended.", "%d sessions were ended.", ended)
        self.message_user(request, text % ended, messages.SUCCESS)
