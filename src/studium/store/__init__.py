"""Durable facts on SQLAlchemy Core: SQLite by default. `Store` is the one door."""

from studium.store.store import Store, open_store

__all__ = ["Store", "open_store"]
