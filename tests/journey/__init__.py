"""The life of a login, under every user model."""
