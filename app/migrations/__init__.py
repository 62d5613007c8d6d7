"""The one schema history of all rooms (Alembic)."""
