"""Delta tables of hostile histories under a SQL source: right, or refused by name."""

import json

import pytest
from worlds import MAPPING, World, rows

from pipelines.errors import SourceUnreadable, TableNotSupported
from pipelines.sources.sql import SqlSource
from pipelines.sync import sync


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.source = SqlSource("SELECT * FROM docs", {"docs": str(world.table)}, MAPPING)
    world.sync()
    return world


def test_a_commit_that_does_not_say_what_it_did_is_followed(world):
    world.upsert(rows(["3"], body="changed"))
    world.write_commit({"txn": {"appId": "a stream", "version": 1}})
    report = sync(world.source, world.index, world.embedder, world.chunk)
    assert report.changed == 1
    assert world.indexed() == world.expected()
    assert world.sync().is_noop


def test_an_empty_commit_file_is_refused_by_name(world):
    world.commit_file(1).touch()
    with pytest.raises(SourceUnreadable, match=r"commit 1 of table .* is an empty file"):
        world.sync()


@pytest.mark.parametrize(
    ("protocol", "properties", "named"),
    [
        ((2, 5), {"delta.columnMapping.mode": "name"}, "maps columns by name"),
        ((3, 7), {}, "deletionVectors"),
    ],
)
def test_what_deltalake_cannot_read_is_not_read_wrongly(world, protocol, properties, named):
    metadata = json.loads(world.commit_file(0).read_text().splitlines()[2])
    metadata["metaData"]["configuration"] |= properties
    schema = json.loads(metadata["metaData"]["schemaString"])
    for number, field in enumerate(schema["fields"]):
        field["metadata"] = {
            "delta.columnMapping.id": number,
            "delta.columnMapping.physicalName": f"col-{number}",
        }
    metadata["metaData"]["schemaString"] = json.dumps(schema)
    form = {"minReaderVersion": protocol[0], "minWriterVersion": protocol[1]}
    if protocol[0] == 3:
        form |= {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    info = {"commitInfo": {"operation": "UPGRADE", "timestamp": 1}}
    world.write_commit(info, {"protocol": form}, metadata)
    with pytest.raises(TableNotSupported, match=named):
        world.sync()
