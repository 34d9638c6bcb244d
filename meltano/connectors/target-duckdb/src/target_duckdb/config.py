"""Settings: what there is, and one configuration checked."""

from __future__ import annotations

import logging
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from elt_singer.batch import local
from elt_singer.settings import Setting, checked, warn

from target_duckdb.errors import SettingsError

LOGGER = logging.getLogger("target-duckdb")

LOAD_METHODS = ("append-only", "upsert", "overwrite")


ROWS = 2 * 122_880
"""Two of DuckDB's row groups: groups that stay half-full are put together when the database is closed, which takes
a fifth of the time of a load."""
SETTINGS = (
    Setting("path", "string", "The database file, or md:NAME for MotherDuck"),
    Setting("filepath", "string", "Other name of path"),
    Setting("dbname", "string", "Database to write to, if it is not the one that path names"),
    Setting("database", "string", "Other name of dbname"),
    Setting("token", "string", "Token for MotherDuck"),
    Setting("default_target_schema", "string", "Schema of the tables", "main"),
    Setting("schema_mapping", "object", "For streams called SCHEMA-TABLE: {SCHEMA: {target_schema: NAME}}"),
    Setting("load_method", "string", "append-only, upsert or overwrite; a stream without keys is appended", "upsert"),
    Setting("batch_size_rows", "integer", "Records that one transaction holds at most", ROWS),
    Setting("batch_wait_limit_seconds", "integer", "Records wait no longer than this once others follow", 300),
    Setting(
        "add_metadata_columns", "boolean", "Add _sdc_extracted_at, _sdc_batched_at and _sdc_deleted_at", default=False
    ),
    Setting(
        "hard_delete", "boolean", "Remove rows with _sdc_deleted_at; implies add_metadata_columns", default=False
    ),
    Setting(
        "process_activate_version_messages",
        "boolean",
        "Retire rows of versions before the activated one",
        default=True,
    ),
    Setting("data_flattening_max_level", "integer", "Depth to which objects become columns, joined by two _", 0),
    Setting("primary_key_required", "boolean", "Refuse a stream without keys", default=True),
    Setting("validate_records", "boolean", "Check every record against its whole JSON schema (slow)", default=False),
    Setting("batch_folder", "string", "The tap's batch folder: files of BATCH messages in it are removed"),
    Setting("clean_up_batch_files", "boolean", "Remove these files once they are committed", default=True),
    Setting("lock_wait_seconds", "integer", "How long to wait for a database file that another process holds", 60),
    Setting("temp_dir", "string", "Folder for records that wait and for what DuckDB spills"),
    Setting("settings", "object", "Settings of DuckDB itself, such as memory_limit"),
    Setting("flush_all_streams", "boolean", "", obsolete="each transaction takes the records of all streams"),
    Setting("delimiter", "string", "", obsolete="records do not pass through CSV"),
    Setting("quotechar", "string", "", obsolete="records do not pass through CSV"),
)


@dataclass(frozen=True)
class Config:
    """One configuration, checked."""

    path: str
    database: str | None = None
    token: str | None = None
    default_target_schema: str = "main"
    schema_mapping: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    load_method: str = "upsert"
    batch_size_rows: int = ROWS
    batch_wait_limit_seconds: int = 300
    metadata: bool = False
    hard_delete: bool = False
    versions: bool = True
    flatten: int = 0
    primary_key_required: bool = True
    validate_records: bool = False
    batch_folder: Path | None = None
    """Below it files of BATCH messages may be removed; none for nowhere."""
    lock_wait_seconds: int = 60
    temp_dir: Path | None = None
    settings: dict[str, t.Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: t.Mapping[str, t.Any]) -> Config:
        """Check what stands in a configuration file; what has no effect is warned of.

        Raises:
            SettingsError: a setting is missing or does not fit.
        """
        warn(raw, SETTINGS, LOGGER)
        given = checked(raw, SETTINGS)
        path = given.get("path") or given.get("filepath")
        if not path:
            raise SettingsError("set `path` (or `filepath`) to the database file")
        load_method = given["load_method"]
        if load_method not in LOAD_METHODS:
            raise SettingsError(f"load_method is one of {', '.join(LOAD_METHODS)}")
        if given["batch_size_rows"] < 1:
            raise SettingsError("batch_size_rows must be at least 1")
        temp_dir = Path(given["temp_dir"]) if given.get("temp_dir") else None
        if temp_dir and not temp_dir.is_dir():
            raise SettingsError(f"temp_dir {temp_dir} is no folder")
        return cls(
            path=path,
            database=given.get("database") or given.get("dbname"),
            token=given.get("token"),
            default_target_schema=given["default_target_schema"].strip() or "main",
            schema_mapping=_mapping(given.get("schema_mapping") or {}),
            load_method=load_method,
            batch_size_rows=given["batch_size_rows"],
            batch_wait_limit_seconds=given["batch_wait_limit_seconds"],
            metadata=given["add_metadata_columns"] or given["hard_delete"],
            hard_delete=given["hard_delete"],
            versions=given["process_activate_version_messages"],
            flatten=given["data_flattening_max_level"],
            primary_key_required=given["primary_key_required"],
            validate_records=given["validate_records"],
            batch_folder=_batch_folder(given),
            lock_wait_seconds=given["lock_wait_seconds"],
            temp_dir=temp_dir,
            settings=given.get("settings") or {},
        )


def _batch_folder(given: dict[str, t.Any]) -> Path | None:
    if not given.get("batch_folder") or not given["clean_up_batch_files"]:
        return None
    folder = local(given["batch_folder"])
    if folder is None:
        raise SettingsError(f"batch_folder is a local folder, not one on {given['batch_folder'].partition(':')[0]}")
    return folder


def _mapping(mapping: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    for name, entry in mapping.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("target_schema"), str):
            raise SettingsError(f"schema_mapping of {name!r} must be an object with target_schema")
        if entry.get("indices"):
            LOGGER.warning("schema_mapping of %r: indices have no effect: they would slow down every load", name)
    return mapping
