"""The tap: its settings, its streams and its command line."""

from __future__ import annotations

import json
import logging
import sys
import typing as t
from collections import Counter
from pathlib import Path

from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import SingerCommand

from tap_csv.errors import SettingsError, TapCSVError
from tap_csv.files import FileSettings
from tap_csv.streams import CSVStream
from tap_csv.writer import Writer

if t.TYPE_CHECKING:
    import click

FILES = th.ArrayType(
    th.ObjectType(
        th.Property(
            "entity",
            th.StringType(min_length=1),
            required=True,
            description="Name of the stream, hence of the table.",
        ),
        th.Property(
            "path",
            th.StringType(min_length=1),
            required=True,
            description="A file, a folder (searched through for *.csv) or a glob.",
        ),
        th.Property(
            "keys",
            th.ArrayType(th.StringType),
            required=True,
            description="Columns that identify a row; may be empty.",
        ),
        th.Property("encoding", th.StringType, description="A Python codec; UTF-8 unless given."),
        th.Property("delimiter", th.StringType, description="One character between fields; a comma unless given."),
        th.Property(
            "doublequote",
            th.BooleanType,
            description="A doubled quote within quotes is one quote; true unless given.",
        ),
        th.Property(
            "escapechar",
            th.StringType,
            description="One character that takes the meaning from the next; none unless given.",
        ),
        th.Property(
            "quotechar", th.StringType, description="One character around fields; a double quote unless given."
        ),
        th.Property(
            "skipinitialspace",
            th.BooleanType,
            description="Spaces after the delimiter are dropped; false unless given.",
        ),
        th.Property("strict", th.BooleanType, description="Refuse text after a closing quote; false unless given."),
        additional_properties=False,  # a misspelt setting would be passed over in silence
    )
)


class _Command(SingerCommand):
    """The command line, where a refusal is one line and no traceback."""

    def main(self, *args: t.Any, **kwargs: t.Any) -> t.Any:  # noqa: ANN401 - click's signature
        try:
            return super().main(*args, **kwargs)
        except TapCSVError as error:
            debug = self.logger.isEnabledFor(logging.DEBUG)
            self.logger.error("%s", error, exc_info=debug)  # noqa: TRY400 - a traceback only on request
            sys.exit(1)


class TapCSV(Tap):
    """Singer tap for CSV files."""

    name = "tap-csv"
    package_name = "elt-tap-csv"
    dynamic_catalog = True  # makes --discover check the settings too
    message_writer_class = Writer
    capabilities: t.ClassVar = [
        TapCapabilities.CATALOG,
        TapCapabilities.DISCOVER,
        TapCapabilities.STATE,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]
    config_jsonschema: t.ClassVar = th.PropertiesList(
        th.Property("files", FILES, description="The entities and the files that hold them."),
        th.Property(
            "csv_files_definition",
            th.StringType,
            description="Path of a JSON file that holds the list instead; it takes precedence over `files`.",
        ),
        th.Property(
            "filesystem",
            th.StringType,
            allowed_values=["local"],
            description="Where the files are. Only `local` is known; the setting is there to refuse any other.",
        ),
        th.Property(
            "add_metadata_columns",
            th.BooleanType,
            default=False,
            description="Add _sdc_source_file, _sdc_source_file_mtime and _sdc_source_lineno to every record.",
        ),
    ).to_dict()

    def discover_streams(self) -> list[CSVStream]:
        """A stream per entity.

        Raises:
            SettingsError: the settings name no files, or an entity twice.
        """
        entries = [FileSettings.from_config(entry) for entry in self._entries()]
        if not entries:
            raise SettingsError("no files: set `files` or `csv_files_definition`")
        entity, times = Counter(entry.entity for entry in entries).most_common(1)[0]
        if times > 1:
            raise SettingsError(f"entity {entity!r} stands {times} times in the list of files")
        return [CSVStream(self, entry) for entry in entries]

    def _entries(self) -> t.Sequence[t.Mapping[str, t.Any]]:
        definition = self.config.get("csv_files_definition")
        if not definition:
            return self.config.get("files") or ()
        try:
            entries = json.loads(Path(definition).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"csv_files_definition {definition}: {error.strerror}") from None
        except ValueError as error:
            raise SettingsError(f"csv_files_definition {definition} is no JSON: {error}") from None
        for misfit in th.DEFAULT_JSONSCHEMA_VALIDATOR(FILES.to_dict()).iter_errors(entries):
            raise SettingsError(f"csv_files_definition {definition}: {misfit.json_path}: {misfit.message}")
        return t.cast("list[dict[str, t.Any]]", entries)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """The SDK's command line with our way to report a refusal."""
        command = super().get_singer_command()
        return _Command(
            name=command.name,
            help=command.help,
            callback=command.callback,
            params=command.params,
            context_settings=command.context_settings,
            logger=cls.logger,
        )


if __name__ == "__main__":
    TapCSV.cli()
