"""User models with a parent in a table of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Manager(BaseUserManager["Any"]):
    """Makes users."""

    def create_user(self, handle: str, password: str | None = None, **fields: Any) -> Any:
        """Make a user with a hashed password."""
        user = self.model(handle=handle, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class Person(AbstractBaseUser):
    """Has a password and a status."""

    handle = models.CharField(max_length=50, unique=True)
    status = models.CharField(max_length=20, default="hired")

    USERNAME_FIELD = "handle"
    objects: ClassVar[Manager] = Manager()


class User(Person):
    """Is active as long as the person is hired and has not left."""

    left_at = models.DateTimeField(null=True)

    @property
    def is_active(self) -> bool:  # type: ignore[override]
        """Tell by two fields, one of them the parent's."""
        return self.status == "hired" and self.left_at is None


class Account(AbstractBaseUser):
    """Has the column that Django's users have."""

    handle = models.CharField(max_length=50, unique=True)
    is_active = models.BooleanField(default=True)

    USERNAME_FIELD = "handle"
    objects: ClassVar[Manager] = Manager()


class Member(Account):
    """A user whose password and activity stand in the parent's table."""

    number = models.CharField(max_length=20, default="")


class StaffAccount(Account):
    """The parent under another class."""

    class Meta:
        proxy = True
