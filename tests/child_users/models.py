"""Employees are users with a badge."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models


class Partner(User):
    """A user with a key of another kind in a second table."""

    code = models.CharField(max_length=20, primary_key=True)
    user = models.OneToOneField(User, on_delete=models.CASCADE, parent_link=True)


class Employee(User):
    """A user with a row in a second table."""

    badge = models.CharField(max_length=20)
