"""A CSV file into DuckDB by dlt, in its fastest way: arrow tables, parquet files on their way."""

from __future__ import annotations

import sys
import typing as t

import dlt
import pyarrow as pa
from pyarrow import csv

if t.TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 16 << 20


def main(file: str, database: str, disposition: t.Literal["replace", "merge"], folder: str) -> None:
    """Load the file into table `bench.things`."""

    @dlt.resource(name="things", write_disposition=disposition, primary_key="id")
    def things() -> Iterator[pa.Table]:
        reading, parsing = csv.ReadOptions(block_size=BLOCK), csv.ParseOptions(newlines_in_values=True)
        with csv.open_csv(file, reading, parsing) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    pipeline = dlt.pipeline(
        "bench", pipelines_dir=folder, destination=dlt.destinations.duckdb(database), dataset_name="bench"
    )
    pipeline.run(things(), loader_file_format="parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
