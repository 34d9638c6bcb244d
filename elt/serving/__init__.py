"""What readers get: the published file, the tables in PostgreSQL, the SQL prompt."""
