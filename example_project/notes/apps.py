"""The app of notes."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    """Notes with an owner, which editors publish."""

    name = "notes"
