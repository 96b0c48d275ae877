"""Proofs on real databases, with threads, processes and clocks that step.

Run by ``tox -e proof-sqlite``, ``proof-postgresql`` and ``proof-mariadb``; see
``docs/explanation/proof.md``.
"""
