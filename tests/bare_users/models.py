"""A user model without ``is_active``, groups or a number, behind a manager that hides rows."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Manager(BaseUserManager["User"]):
    """Makes users, and hides those on leave."""

    def get_queryset(self) -> models.QuerySet[User]:
        """Return whoever is not on leave."""
        return super().get_queryset().filter(on_leave=False)

    def create_user(self, handle: str, password: str | None = None, **fields: Any) -> User:
        """Make a user with a hashed password."""
        user = self.model(handle=handle, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser):
    """Is active as long as the row is there."""

    handle = models.CharField(max_length=50, primary_key=True)
    on_leave = models.BooleanField(default=False)

    USERNAME_FIELD = "handle"
    objects: ClassVar[Manager] = Manager()
