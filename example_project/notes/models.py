"""What a note is, and who may see it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


class NoteQuerySet(models.QuerySet["Note"]):
    """Notes by who may see them."""

    def visible_to(self, user: Any) -> NoteQuerySet:
        """Return the user's own notes and everybody's published ones.

        `None` is nobody, who sees the published ones.
        """
        published = models.Q(published=True)
        return self.filter(published if user is None else published | models.Q(owner=user))


class Note(models.Model):
    """A note of one user."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    published = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = NoteQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.title
