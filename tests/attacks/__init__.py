"""Hostile tokens, forged without the app and without PyJWT."""
