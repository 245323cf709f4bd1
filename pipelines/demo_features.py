"""The demo's feature tables: three made-up users, and statistics counted in the documents."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

USER_PROFILES = "user_profiles"
DOCUMENT_STATS = "document_stats"

# A name is mentioned where it is quoted or dotted; a bare "with" in a sentence is no mention.
_MENTION = re.compile(r"[\"'`]([A-Za-z_][\w.]*)[\"'`]|([A-Za-z_]\w*(?:\.\w+)+)")
_EXAMPLE = ">>> "
_MOMENT = pa.timestamp("us", tz="UTC")

PROFILE_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("experience_level", pa.string()),
        pa.field("preferred_modules", pa.list_(pa.string())),
        pa.field("tone", pa.string()),
        pa.field("tier", pa.string()),
        pa.field("updated_at", _MOMENT),
    ]
)
STATS_SCHEMA = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("views", pa.int64()),
        pa.field("helpful_votes", pa.int64()),
        pa.field("last_reviewed", _MOMENT),
        pa.field("updated_at", _MOMENT),
    ]
)
_USERS = (
    ("ada", "expert", ["csv", "json"], "terse", "paid"),
    ("ben", "beginner", ["pathlib"], "friendly", "free"),
    ("eve", "beginner", ["threading", "asyncio"], "terse", "free"),
)


def write_demo_features(documents: Path, folder: Path) -> None:
    """Writes `user_profiles` and `document_stats` into the folder; what was there is replaced.

    documents: the demo table. `views` is how many other documents name a document, and
    `helpful_votes` how many examples it holds: nobody has read the demo yet.
    """
    now = datetime.now(UTC)
    profiles = [dict(zip(PROFILE_SCHEMA.names, (*user, now), strict=True)) for user in _USERS]
    rows = DeltaTable(str(documents)).to_pyarrow_table(columns=["id", "title", "body"]).to_pylist()
    for name, table in (
        (USER_PROFILES, pa.Table.from_pylist(profiles, schema=PROFILE_SCHEMA)),
        (DOCUMENT_STATS, pa.Table.from_pylist(list(_stats(rows, now)), schema=STATS_SCHEMA)),
    ):
        write_deltalake(str(folder / name), table, mode="overwrite")


def _stats(rows: list[dict[str, str]], now: datetime) -> Iterator[dict[str, object]]:
    mentions = [{quoted or dotted for quoted, dotted in _MENTION.findall(r["body"])} for r in rows]
    named = Counter(name for names in mentions for name in names)
    for row, own in zip(rows, mentions, strict=True):
        yield {
            "document_id": row["id"],
            "views": named[row["title"]] - (row["title"] in own),
            "helpful_votes": row["body"].count(_EXAMPLE),
            "last_reviewed": now,
            "updated_at": now,
        }
