"""Signals about login sessions.

Each is sent after the change is committed, with ``sender=LoginSession``,
``session`` (as read, with the new values set) and ``request`` (or `None`); never
with a token. A receiver that raises is logged and does not disturb the answer.
"""

from django.dispatch import Signal

session_started = Signal()
session_refreshed = Signal()
session_ended = Signal()
refresh_reused = Signal()
