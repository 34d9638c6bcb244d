"""A table of PostgreSQL into DuckDB by dlt's `sql_database`, with one of its backends."""

from __future__ import annotations

import os
import sys

import dlt
from dlt.sources.sql_database import sql_table


def main(table: str, database: str, backend: str, folder: str) -> None:
    """Load the table into one of the same name in schema `bench`; the URL stands in the environment."""
    url = os.environ["SOURCE_URL"]
    given = {"conn": url.replace("postgresql+psycopg2", "postgresql")} if backend == "connectorx" else {}
    rows = sql_table(
        url,
        table,
        schema="public",
        backend=backend,  # type: ignore[arg-type]
        chunk_size=100_000,
        backend_kwargs=given,
        reflection_level="full_with_precision",
    )
    pipeline = dlt.pipeline(
        "bench", pipelines_dir=folder, destination=dlt.destinations.duckdb(database), dataset_name="bench"
    )
    pipeline.run(rows, write_disposition="replace", loader_file_format="parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
