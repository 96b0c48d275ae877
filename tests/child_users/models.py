"""Employees are users with a badge; guests are users with a name of any type."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, User
from django.db import models


class Partner(User):
    """A user with a key of another kind in a second table."""

    code = models.CharField(max_length=20, primary_key=True)
    user = models.OneToOneField(User, on_delete=models.CASCADE, parent_link=True)


class Employee(User):
    """A user with a row in a second table."""

    badge = models.CharField(max_length=20)


class GuestManager(BaseUserManager["Guest"]):
    """Finds guests by name."""


class Guest(AbstractBaseUser):
    """A user who may sign in by any of these fields."""

    uuid = models.UUIDField(null=True)
    integer = models.BigIntegerField(null=True)
    decimal = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    fraction = models.FloatField(null=True)
    date = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    duration = models.DurationField(null=True)
    address = models.GenericIPAddressField(null=True)

    USERNAME_FIELD = "uuid"
    objects: ClassVar[GuestManager] = GuestManager()
