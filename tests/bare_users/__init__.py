"""An app with a user model."""
