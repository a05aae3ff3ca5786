"""Postgres and Redis of our own, for machines that have none: found, started, shared, and stopped."""
