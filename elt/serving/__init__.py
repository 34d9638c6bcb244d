"""Serve the marts to readers: the published file, tables in PostgreSQL, an SQL prompt."""
