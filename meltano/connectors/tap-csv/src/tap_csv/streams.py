"""One entity as a Singer stream."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.helpers.conform import TypeConformanceLevel

from tap_csv.errors import InputError
from tap_csv.reader import CSVFile

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_csv.files import FileSettings

METADATA = {
    "_sdc_source_file": th.StringType,
    "_sdc_source_file_mtime": th.DateTimeType,
    "_sdc_source_lineno": th.IntegerType,
}


class CSVStream(Stream):
    """All files of one entity, read one after the other."""

    # Every value is a string already (see `schema_of`), so there is nothing to conform.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: Tap, settings: FileSettings) -> None:
        """Find the files and read their headers, so that what is refused there is refused at discovery."""
        self._files = [CSVFile(path, settings) for path in settings.find()]
        self._columns = self._files[0].header()
        self._with_metadata = bool(tap.config.get("add_metadata_columns"))
        for file in self._files:
            self._check_columns(file, file.header())
        super().__init__(tap, schema=schema_of(self._columns, metadata=self._with_metadata), name=settings.entity)
        self.primary_keys = settings.keys

    def get_records(self, context: Context | None) -> Iterable[Record]:  # noqa: ARG002 - the SDK's signature
        """Each row as a dictionary of strings; an empty field is an empty string, as upstream has it."""
        for file in self._files:
            rows = file.read(self.primary_keys)
            _, columns = next(rows)
            self._check_columns(file, columns)
            if self._with_metadata:
                modified = datetime.fromtimestamp(file.path.stat().st_mtime, UTC).isoformat()
                source = {"_sdc_source_file": str(file.path), "_sdc_source_file_mtime": modified}
                for line, row in rows:
                    yield dict(zip(columns, row, strict=True)) | source | {"_sdc_source_lineno": line}
            else:
                for _, row in rows:
                    yield dict(zip(columns, row, strict=True))

    def _check_columns(self, file: CSVFile, columns: Sequence[str]) -> None:
        """A file may order the columns of its entity as it likes, but not lack or add one."""
        first = self._files[0].path
        if missing := set(self._columns).difference(columns):
            raise InputError(f"the header lacks this column of {first}", file.path, line=1, column=min(missing))
        if added := set(columns).difference(self._columns):
            raise InputError(f"the header has this column, {first} has not", file.path, line=1, column=min(added))
        if self._with_metadata and (taken := METADATA.keys() & columns):
            raise InputError(
                "the file has this column, and add_metadata_columns adds it", file.path, line=1, column=min(taken)
            )


def schema_of(columns: Sequence[str], *, metadata: bool) -> dict[str, t.Any]:
    """JSON schema of a record: every column is a nullable string, as upstream has it."""
    properties = [th.Property(name, th.StringType) for name in columns]
    if metadata:
        properties += [th.Property(name, kind) for name, kind in METADATA.items()]
    return t.cast("dict[str, t.Any]", th.PropertiesList(*properties).to_dict())
