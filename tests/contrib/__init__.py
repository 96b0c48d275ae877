"""Adapters beside the real packages."""
