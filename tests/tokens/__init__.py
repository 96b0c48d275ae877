"""Tokens, without Django."""
