"""How fast it is, beside what it replaces: all of them in one run, on one machine."""
