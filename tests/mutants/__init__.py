"""Takes out each refusal in turn, to show that a test fails; see ``__main__.py``."""
