"""Notes with an owner, which editors publish."""
