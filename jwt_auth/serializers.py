"""What the login view reads from its body."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.signals import user_login_failed
from django.db import DatabaseError, InterfaceError
from django.views.decorators.debug import sensitive_variables
from rest_framework import serializers

from jwt_auth.errors import InvalidCredentials
from jwt_auth.models import DEVICE_LENGTH
from jwt_auth.users import is_active

NAME_LENGTH = 254
# Hashing takes time in proportion; nobody types more.
PASSWORD_LENGTH = 4096


class _TextField(serializers.CharField):
    """Refuses lists and objects before DRF makes texts of them: that takes quadratic time."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, dict | list):
            self.fail("invalid")
        return super().run_validation(data)


class LoginSerializer(serializers.Serializer[Any]):
    """Validates user name, password and device label, and finds the user.

    ``context["request"]`` is Django's own request: backends, django-axes and signal
    receivers expect that one. A subclass may ask for other fields; what the view
    takes from it is ``validated_data["user"]`` and, if present, ``["device"]``.
    """

    # Never trimmed: the whole secret is compared (NIST SP 800-63B section 5.1.1.2).
    password = _TextField(max_length=PASSWORD_LENGTH, trim_whitespace=False, write_only=True)
    device = _TextField(max_length=DEVICE_LENGTH, required=False, allow_blank=True)

    def __repr__(self) -> str:
        # DRF's own shows the data, password included.
        return f"<{type(self).__name__}>"

    def get_fields(self) -> dict[str, Any]:
        """Put the user model's ``USERNAME_FIELD`` first."""
        name = get_user_model().USERNAME_FIELD
        return {name: _TextField(max_length=NAME_LENGTH), **super().get_fields()}

    @sensitive_variables()
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Add the user whose credentials these are.

        Raises:
            InvalidCredentials: wrong password, unknown user, or inactive user.
        """
        name = get_user_model().USERNAME_FIELD
        request = self.context["request"]
        credentials = {name: attrs[name], "password": attrs["password"]}
        try:
            user = authenticate(request=request, **credentials)
        except (DatabaseError, InterfaceError) as error:
            # It is logged. Of the frames below, Django's own decorator hides less than ours:
            # the password is in them. What the driver said is the cause.
            raise error.with_traceback(None) from error.__cause__
        if user is not None and not is_active(user):
            # Some backends let inactive users in; the failure is then ours to tell.
            user_login_failed.send(
                sender="django.contrib.auth",
                credentials={name: attrs[name], "password": "*" * 20},
                request=request,
            )
            user = None
        if user is None:
            raise InvalidCredentials("authenticate() found nobody")
        return {**attrs, "user": user}
