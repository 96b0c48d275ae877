"""A service that only verifies; run with ``--ds=tests.settings_verifier``."""
