"""Compares the app with its neighbours on the same hostile tokens; see ``__main__.py``."""
