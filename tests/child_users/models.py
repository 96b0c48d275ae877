"""Employees are users with a badge."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models


class Employee(User):
    """A user with a row in a second table."""

    badge = models.CharField(max_length=20)
