"""An app with user models that have parents."""
