"""Another issuer: its keys, its tokens, its list of ended sessions."""
