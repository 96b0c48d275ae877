"""The API of notes."""

from __future__ import annotations

from typing import Any

from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from jwt_auth.permissions import HasRole
from notes.models import Note
from notes.serializers import NoteSerializer


class IsOwnerOrReadOnly(BasePermission):
    """Only the owner changes a note."""

    def has_object_permission(self, request: Request, view: Any, obj: Note) -> bool:
        """Compare keys: the token has the user's, so no user row is loaded."""
        return request.method in SAFE_METHODS or obj.owner_id == request.user.pk


class NoteViewSet(viewsets.ModelViewSet):
    """Your own notes, and the published ones of everybody."""

    serializer_class = NoteSerializer
    permission_classes = [IsAuthenticated, IsOwnerOrReadOnly]

    def get_queryset(self) -> Any:
        """Return the notes that the caller may see: all of them, to publish one."""
        notes = Note.objects.select_related("owner")
        return notes if self.action == "publish" else notes.visible_to(self.request.user)

    def perform_create(self, serializer: NoteSerializer) -> None:
        """Make the caller the owner."""
        serializer.save(owner=self.request.user)

    # The role stands in the token, since the user is in the group "editors".
    @action(detail=True, methods=["post"], permission_classes=[HasRole("editors")])
    def publish(self, request: Request, pk: str) -> Response:
        """Publish anybody's note."""
        note = self.get_object()
        note.published = True
        note.save(update_fields=["published"])
        return Response(self.get_serializer(note).data)
