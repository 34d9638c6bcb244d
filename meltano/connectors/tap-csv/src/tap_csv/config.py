"""Settings: what there is, and one configuration checked."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import json
import logging
import re
import typing as t
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from elt_singer.batch import destination
from elt_singer.settings import Setting, checked, warn

from tap_csv import formats, types
from tap_csv.errors import SettingsError

LOGGER = logging.getLogger("tap-csv")

SAMPLE_ROWS = 20_480
"""What DuckDB itself looks at."""
RANGE = re.compile(r"([A-Z]{1,3})([1-9]\d*):([A-Z]{1,3})([1-9]\d*)")
"""Cells of a sheet."""
FORMATS = ("csv", "json", "parquet", "xlsx")
MAX_FIELD_BYTES = 32_000_000
_REJECTED = re.compile(r"(\d+)|(\d+(?:\.\d+)?) ?%")
"""A number of rows, or a share of all."""
_MOST_FIELD_BYTES = 500_000_000
"""So that a row of such a value is less than DuckDB takes as JSON."""


ENTITY_SETTINGS = (
    Setting("entity", "string", "Name of the stream, hence of the table"),
    Setting("path", "string", "A file, a folder (searched through for *.csv, compressed or not) or a glob"),
    Setting("members", "string", "Pattern of the files of a zip file that are read, if it holds several"),
    Setting("keys", "array", "Columns that identify a row, in whatever case; may be empty"),
    Setting("columns", "object", "Types of columns by their names, where they are not to be found by a sample"),
    Setting("format", "string", "csv, json, parquet or xlsx, where the first bytes of a file do not tell"),
    Setting("sheet", "string", "Name of the sheet of a workbook, if it has several"),
    Setting("range", "string", "Cells of a sheet that are read, such as B2:F99"),
    Setting("header_row", "integer", "Number of the row of a sheet that holds the names of the columns"),
    Setting("encoding", "string", "A Python codec", "utf-8"),
    Setting("delimiter", "string", "One character between fields", ","),
    Setting("doublequote", "boolean", "A doubled quote within quotes is one quote", default=True),
    Setting("escapechar", "string", "One character that takes the meaning from the next"),
    Setting("quotechar", "string", "One character around fields; empty if none has a meaning", '"'),
    Setting("skipinitialspace", "boolean", "Spaces after the delimiter are dropped", default=False),
    Setting("strict", "boolean", "Refuse text after a closing quote", default=False),
    Setting("skip", "integer", "Lines before the header that are passed over", 0),
    Setting("skip_footer", "integer", "Lines at the end of the file that are passed over", 0),
    Setting("comment", "string", "What a line begins with that is passed over"),
    Setting("header", "boolean", "Whether the first row holds the names of the columns", default=True),
    Setting("names", "array", "Names of the columns, where the file has no header"),
    Setting("unnamed_columns", "string", "keep or drop columns that the header does not name"),
    Setting("null_values", "array", "Texts that stand for no value, as an empty field does"),
    Setting("decimal_separator", "string", "A point or a comma, before the fraction of a number", "."),
    Setting("thousands_separator", "string", "One character between the thousands of numbers"),
    Setting("ragged", "string", "refuse, pad or quarantine rows that do not fit", "refuse"),
    Setting("max_rejected", "string", "Most rows in quarantine: a number, or a share such as 1%", "1%"),
    Setting("max_field_bytes", "integer", "Longest value, in bytes of UTF-8", MAX_FIELD_BYTES),
)
SETTINGS = (
    Setting("files", "array", "List of entities, each with entity, path and keys", items=ENTITY_SETTINGS),
    Setting("csv_files_definition", "string", "Path of a JSON file that holds this list; it goes before `files`"),
    Setting(
        "add_metadata_columns",
        "boolean",
        "Add _sdc_source_file, _sdc_source_file_mtime and _sdc_source_lineno to every record",
        default=False,
    ),
    Setting("infer_types", "boolean", "Find the types of columns; false makes every column text", default=True),
    Setting("infer_rows", "integer", "Rows of each file that types are found from; -1 for all", SAMPLE_ROWS),
    Setting("incremental", "boolean", "Leave out files that the state knows and that did not change", default=True),
    Setting("batch_config", "object", "Send BATCH messages: {encoding: {format: parquet}, storage: {root: FOLDER}}"),
    Setting("filesystem", "string", "Only `local`; the setting is there to refuse any other", "local"),
)
_DIALECT = ("delimiter", "doublequote", "escapechar", "quotechar", "skipinitialspace", "strict")
_SHAPE = (
    "skip",
    "skip_footer",
    "comment",
    "header",
    "names",
    "unnamed_columns",
    "null_values",
    "decimal_separator",
    "thousands_separator",
    "ragged",
    "max_rejected",
    "max_field_bytes",
)


@dataclass(frozen=True)
class Dialect:
    """How rows are written; the names are those of Python's csv module."""

    delimiter: str = ","
    doublequote: bool = True
    escapechar: str | None = None
    quotechar: str = '"'
    skipinitialspace: bool = False
    strict: bool = False

    @property
    def quote(self) -> bytes:
        """What stands around fields; a NUL where nothing does, which no file may hold."""
        return self.quotechar.encode() or b"\0"

    def options(self) -> dict[str, t.Any]:
        """Return what Python's csv module needs to be told."""
        unquoted = {"quotechar": None, "quoting": csv.QUOTE_NONE} if not self.quotechar else {}
        return dataclasses.asdict(self) | unquoted

    @property
    def plain(self) -> bool:
        """Whether DuckDB reads it just as Python's csv module does."""
        usual = self.doublequote and not self.escapechar and not self.skipinitialspace
        return usual and self.quotechar.isascii() and self.delimiter.isascii() and self.delimiter not in ' "\r\n'


@dataclass(frozen=True)
class Shape:
    """What a file has beyond rows of a dialect; the names are those of the settings."""

    skip: int = 0
    skip_footer: int = 0
    comment: str | None = None
    header: bool = True
    names: tuple[str, ...] = ()
    unnamed_columns: str | None = None
    null_values: tuple[str, ...] = ()
    decimal_separator: str = "."
    thousands_separator: str | None = None
    ragged: str = "refuse"
    max_rejected: str = "1%"
    max_field_bytes: int = MAX_FIELD_BYTES

    @property
    def quarantines(self) -> bool:
        """Whether rows that do not fit go to a stream of their own."""
        return self.ragged == "quarantine"

    def is_too_many(self, rejected: int, rows: int | None = None) -> bool:
        """Whether so many rows do not fit that nothing shall be sent.

        Args:
            rejected: how many do not fit.
            rows: how many there are at all; none while that is not known.
        """
        found = _REJECTED.fullmatch(self.max_rejected)
        assert found
        number, share = found.groups()
        if number:
            return rejected > int(number)
        return rows is not None and rejected * 100 > float(share) * rows

    def notation(self, *, key: bool = False) -> formats.Notation:
        """How numbers are written; keys without marks between thousands, since `1.234` and `1234` are two."""
        return formats.Notation(self.decimal_separator, None if key else self.thousands_separator)

    def given(self) -> dict[str, t.Any]:
        """Return what is not as it is by default."""
        usual = Shape()
        return {name: one for name, one in dataclasses.asdict(self).items() if one != getattr(usual, name)}


@dataclass(frozen=True)
class Entity:
    """One entry of the list of files."""

    name: str
    path: str
    keys: tuple[str, ...] = ()
    encoding: str = "utf-8"
    dialect: Dialect = field(default_factory=Dialect)
    columns: dict[str, types.Type] = field(default_factory=dict)
    shape: Shape = field(default_factory=Shape)

    @property
    def rejected(self) -> str:
        """Name of the stream of rows that do not fit; empty unless they are wanted."""
        return f"{self.name}__rejected" if self.shape.quarantines else ""

    own_delimiter: bool = False
    """Whether the delimiter was given, so that a file's own line about it does not count."""
    format: str | None = None
    """Of all files; none where each one's first bytes tell."""
    sheet: str | None = None
    range: str | None = None
    header_row: int | None = None
    members: str | None = None
    """Pattern of the files within an archive."""

    def spelt_as(self, names: t.Iterable[str]) -> Entity:
        """Return the same with keys and columns as a header spells them; names are the same in any case."""
        spelt = {name.lower(): name for name in names}
        keys = tuple(spelt.get(key.lower(), key) for key in self.keys)
        columns = {spelt.get(name.lower(), name): kind for name, kind in self.columns.items()}
        return dataclasses.replace(self, keys=keys, columns=columns)


@dataclass(frozen=True)
class Config:
    """One configuration, checked."""

    entities: tuple[Entity, ...]
    metadata: bool = False
    infer_types: bool = True
    infer_rows: int | None = SAMPLE_ROWS
    """Rows of each file to find types from; none for all."""
    incremental: bool = True
    batch_folder: Path | None = None
    """Where the files of BATCH messages go; none for RECORD messages."""
    batch_prefix: str = ""

    @classmethod
    def from_dict(cls, raw: t.Mapping[str, t.Any]) -> Config:
        """Check what stands in a configuration file.

        Raises:
            SettingsError: a setting is missing or does not fit.
        """
        if raw.get("stream_maps"):
            raise SettingsError("stream_maps: put a mapper behind the tap, such as meltano-map-transformer")
        warn(raw, SETTINGS, LOGGER)
        given = checked({k: v for k, v in raw.items() if k != "files"}, SETTINGS)
        if given["filesystem"] != "local":
            raise SettingsError("filesystem: only local files are read")
        if given["infer_rows"] < 1 and given["infer_rows"] != -1:
            raise SettingsError("infer_rows: a number of rows, or -1 for all")
        folder, prefix = destination(given.get("batch_config"))
        return cls(
            entities=_entities(*_listed(raw.get("files"), given.get("csv_files_definition"))),
            metadata=given["add_metadata_columns"],
            infer_types=given["infer_types"],
            infer_rows=None if given["infer_rows"] == -1 else given["infer_rows"],
            incremental=given["incremental"],
            batch_folder=folder,
            batch_prefix=prefix,
        )


def _listed(files: object, definition: str | None) -> tuple[object, str]:
    """Return the list of entities, and where it stands."""
    if not definition:
        return files, "files"
    where = f"csv_files_definition {definition}"
    try:
        return json.loads(Path(definition).read_text(encoding="utf-8")), where
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{where} is no JSON: {error}") from None


def _entities(listed: object, where: str) -> tuple[Entity, ...]:
    if listed is None or listed == []:
        raise SettingsError("no files: set `files` or `csv_files_definition`")
    if not isinstance(listed, list):
        raise SettingsError(f"{where}: must be a list")
    found = [_entity(entry, f"{where}[{number}]") for number, entry in enumerate(listed)]
    name, times = Counter(one.name for one in found).most_common(1)[0]
    if times > 1:
        raise SettingsError(f"entity {name!r} stands {times} times in the list of files")
    names = {one.name for one in found}
    if taken := [one for one in found if one.rejected in names]:
        what = f"the name of the stream of what {taken[0].name!r} rejects; choose another one"
        raise SettingsError(f"entity {taken[0].rejected!r}: {what}")
    return tuple(found)


def _entity(entry: object, where: str) -> Entity:
    if not isinstance(entry, dict):
        raise SettingsError(f"{where}: must be an object with entity, path and keys")
    for name in entry.keys() - {one.name for one in ENTITY_SETTINGS}:
        raise SettingsError(f"{where}: unknown setting {name!r}")
    for name in ("entity", "path", "keys"):
        if entry.get(name) in (None, ""):
            raise SettingsError(f"{where}: set {name!r}")
    given = checked(_with_text(entry, "max_rejected"), ENTITY_SETTINGS, f"{where}: ")
    who = f"entity {given['entity']!r}"
    if not all(isinstance(key, str) for key in given["keys"]):
        raise SettingsError(f"{who}: keys: must be a list of names")
    for what in ("keys", "columns"):
        names = Counter(name.lower() for name in given.get(what, ()))
        if twice := [name for name, times in names.items() if times > 1]:
            raise SettingsError(f"{who}: {what}: {twice[0]!r} stands there twice, in whatever case")
    dialect = {name: given[name] for name in _DIALECT if given.get(name) is not None}
    try:
        csv.reader((), **Dialect(**dialect).options())
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{who}: {error}") from None
    shape = _shape(given, Dialect(**dialect), who)
    kinds = {
        name: _type(kind, shape.notation(), f"{who}: columns: {name!r}")
        for name, kind in given.get("columns", {}).items()
    }
    return Entity(
        name=given["entity"],
        path=given["path"],
        members=given.get("members"),
        format=_format(given, who),
        sheet=given.get("sheet"),
        range=given.get("range"),
        header_row=given.get("header_row"),
        keys=tuple(given["keys"]),
        encoding=_encoding(given["encoding"], who),
        dialect=Dialect(**dialect),
        columns=kinds,
        shape=shape,
        own_delimiter=entry.get("delimiter") is not None,
    )


def _format(given: t.Mapping[str, t.Any], who: str) -> str | None:
    if given.get("format") not in {None, *FORMATS}:
        raise SettingsError(f"{who}: format: one of {', '.join(FORMATS)}")
    if not RANGE.fullmatch(given.get("range", "A1:A1")):
        raise SettingsError(f"{who}: range: such as B2:F99")
    of_sheets = [name for name in ("sheet", "range", "header_row") if name in given]
    return given.get("format") or ("xlsx" if of_sheets else None)


def _shape(given: t.Mapping[str, t.Any], dialect: Dialect, who: str) -> Shape:
    found = ((name, given[name]) for name in _SHAPE if name in given)
    fields: dict[str, t.Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in found}
    shape = Shape(**fields)
    for name in ("skip", "skip_footer"):
        if getattr(shape, name) < 0:
            raise SettingsError(f"{who}: {name}: a number of lines")
    comment, letters = shape.comment, (dialect.delimiter, dialect.quote.decode())
    if comment is not None and (not comment or comment.startswith(letters) or set(comment) & set("\0\r\n")):
        raise SettingsError(f"{who}: comment: some text in one line that begins with neither delimiter nor quotechar")
    if shape.unnamed_columns not in {None, "keep", "drop"}:
        raise SettingsError(f"{who}: unnamed_columns: keep or drop")
    if shape.decimal_separator not in tuple(formats.DECIMAL_SEPARATORS):
        raise SettingsError(f"{who}: decimal_separator: a point or a comma")
    if shape.thousands_separator not in {None, *formats.THOUSANDS_SEPARATORS} - {shape.decimal_separator}:
        known = formats.THOUSANDS_SEPARATORS
        raise SettingsError(f"{who}: thousands_separator: one of {known!r}, and not the decimal_separator")
    _check_null_values(shape, dialect, who)
    _check_limits(shape, who)
    _check_names(shape, given["keys"], who)
    return shape


def _with_text(entry: dict[str, t.Any], name: str) -> dict[str, t.Any]:
    """Return the entry with a text for a setting that may be a number, too."""
    return {**entry, name: str(entry[name])} if type(entry.get(name)) is int else entry


def _check_null_values(shape: Shape, dialect: Dialect, who: str) -> None:
    if not all(isinstance(value, str) for value in shape.null_values):
        raise SettingsError(f"{who}: null_values: must be a list of texts")
    escape = dialect.escapechar
    if escape and (escaped := [value for value in shape.null_values if escape in value]):
        what = f"escapechar takes the {escape!r} away from {escaped[0]!r} before it is found; leave one of both out"
        raise SettingsError(f"{who}: null_values: {what}")


def _check_limits(shape: Shape, who: str) -> None:
    if shape.ragged not in {"refuse", "pad", "quarantine"}:
        raise SettingsError(f"{who}: ragged: refuse, pad or quarantine")
    limit = _REJECTED.fullmatch(shape.max_rejected)
    if not limit or float(limit[2] or 0) > 100:
        raise SettingsError(f"{who}: max_rejected: a number of rows, or a share such as 1%")
    if not shape.quarantines and shape.max_rejected != Shape().max_rejected:
        raise SettingsError(f"{who}: max_rejected: set `ragged: quarantine` too, else every row must fit")
    if not 0 < shape.max_field_bytes <= _MOST_FIELD_BYTES:
        raise SettingsError(f"{who}: max_field_bytes: from 1 to {_MOST_FIELD_BYTES}")


def _check_names(shape: Shape, keys: t.Iterable[str], who: str) -> None:
    names = shape.names
    if shape.header and names:
        raise SettingsError(f"{who}: names: set `header: false` too if the file has none, else its header counts")
    if not shape.header and not names:
        raise SettingsError(f"{who}: header: false needs `names`, a list of the columns' names")
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise SettingsError(f"{who}: names: must be a list of names")
    times = Counter(name.lower() for name in names)
    if twice := [name for name in names if times[name.lower()] > 1]:
        raise SettingsError(f"{who}: names: {twice[0]!r} stands there twice, in whatever case")
    if names and (missing := [key for key in keys if key.lower() not in times]):
        raise SettingsError(f"{who}: keys: {missing[0]!r} is none of `names`")


def _encoding(name: str, who: str) -> str:
    try:
        canonical = codecs.lookup(name).name
        "".encode(canonical)  # a codec that turns bytes into bytes is found, yet is no encoding
    except LookupError:
        raise SettingsError(f"{who}: unknown encoding {name!r}") from None
    return "utf-8" if canonical == "utf-8-sig" else canonical


def _type(words: object, notation: formats.Notation, where: str) -> types.Type:
    try:
        return formats.named(words if isinstance(words, str) else "", notation)
    except formats.FormatError as error:
        raise SettingsError(f"{where}: {error}") from None
    except ValueError:
        raise SettingsError(f"{where}: a type is one of {', '.join(formats.NAMES)}") from None
