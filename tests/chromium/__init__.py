"""The page of the example in a real browser; run by ``tox -e chromium``."""
