"""A child of the user model, in a table of its own."""
