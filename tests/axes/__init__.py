"""django-axes beside `jwt_auth`; run with ``--ds=tests.settings_axes``."""
