"""Two users and some notes to try the example with. Sowing twice changes nothing."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User

from notes.models import Note

# Printed for everybody to see: the example runs on one's own machine.
PASSWORDS = {"alice": "alice likes long walks", "eve": "eve edits everything"}


def sow() -> None:
    """Make alice, who writes, and eve, who edits."""
    alice, eve = (_user(name) for name in PASSWORDS)
    editors, _ = Group.objects.get_or_create(name="editors")
    eve.groups.add(editors)
    Note.objects.get_or_create(owner=alice, title="Groceries", text="Bread, tea, oranges.")
    Note.objects.get_or_create(owner=alice, title="A walk to the sea", text="Seven miles.")
    Note.objects.get_or_create(
        owner=eve, title="How we edit", text="Kindly.", defaults={"published": True}
    )


def _user(name: str) -> Any:
    user, created = User.objects.get_or_create(username=name)
    # Another hash of the same password would end the sessions of an earlier run.
    if created or not user.check_password(PASSWORDS[name]):
        user.set_password(PASSWORDS[name])
        user.save()
    return user
