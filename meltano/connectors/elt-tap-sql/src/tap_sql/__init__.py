"""Singer taps for databases, on DuckDB's scanners."""
