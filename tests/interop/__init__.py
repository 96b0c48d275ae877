"""Other ecosystems read what we make, and we read what they make. Run by ``tox -e interop``."""
