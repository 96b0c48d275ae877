"""Projects whose user model has a parent, and whose facts stand under other names."""
