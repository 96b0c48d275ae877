"""Adapters for other packages. Each imports its package, so import only those that you use."""
