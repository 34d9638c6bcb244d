"""Where raw tables and marts live: one interface, today a DuckDB file for each environment."""
