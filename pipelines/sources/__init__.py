"""Tables as a sync reads them: one file one kind of table, `protocol.py` what they share."""

from pipelines.sources.delta import DeltaSource
from pipelines.sources.protocol import (
    ChangedKeys,
    ColumnMapping,
    Doubt,
    Snapshot,
    TableSource,
    TextFormat,
)

__all__ = [
    "ChangedKeys",
    "ColumnMapping",
    "DeltaSource",
    "Doubt",
    "Snapshot",
    "TableSource",
    "TextFormat",
]
