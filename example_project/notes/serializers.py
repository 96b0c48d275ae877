"""Notes as JSON."""

from __future__ import annotations

from rest_framework import serializers

from notes.models import Note


class NoteSerializer(serializers.ModelSerializer):
    """A note; whose it is and whether it is published is not for the client to say."""

    owner = serializers.CharField(source="owner.username", read_only=True)

    class Meta:
        model = Note
        fields = ["id", "owner", "title", "text", "published", "created_at"]
        read_only_fields = ["published"]
