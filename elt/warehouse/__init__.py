"""Store raw tables and marts: one interface, today with a DuckDB file for each environment."""
