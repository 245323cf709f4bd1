"""Tables in S3, as moto's server speaks it over HTTP on this machine."""

import io
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from obstore.store import S3Store
from papers import PDF

from headrace.settings_file import read_config
from pipelines.errors import (
    BadQuery,
    FileUnreadable,
    PathRefused,
    SourceChanged,
    SourceUnreadable,
    TableNotFound,
)
from pipelines.sources.document_folder import DocumentFolder
from pipelines.sources.parquet import ParquetSource
from pipelines.sources.protocol import ColumnMapping
from pipelines.sources.sql import SqlSource

MAPPING = ColumnMapping("id", "title", "body")
SECRET = "correct-horse-battery"


def rows(ids, body="text"):
    return pa.table(
        {"id": ids, "title": [f"t {i}" for i in ids], "body": [f"{body} {i}" for i in ids]}
    )


@pytest.fixture(scope="module")
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        yield _answering(url, process)
    finally:
        process.kill()
        process.wait()


def _answering(url, process):
    for _ in range(600):
        assert process.poll() is None, "moto's server has ended"
        try:
            send(f"{url}/tables", method="PUT")
            return url
        except OSError:
            time.sleep(0.05)
    raise AssertionError("moto's server does not answer")


def send(url, body=b"", method="POST"):
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=10):
        pass


@pytest.fixture
def options(server, tmp_path, monkeypatch):
    """As headrace.yaml would have them, the secret out of the environment."""
    monkeypatch.setenv("BUCKET_SECRET", SECRET)
    (tmp_path / "headrace.yaml").write_text(
        "source:\n  storage_options:\n    AWS_ACCESS_KEY_ID: reader\n"
        "    AWS_SECRET_ACCESS_KEY: ${BUCKET_SECRET}\n    AWS_REGION: us-east-1\n"
        f'    AWS_ENDPOINT_URL: {server}\n    AWS_ALLOW_HTTP: "true"\n'
    )
    read = read_config(tmp_path / "headrace.yaml")["source"]["storage_options"]
    assert read["AWS_SECRET_ACCESS_KEY"] == SECRET
    return read


@pytest.fixture
def bucket(options):
    """The bucket itself, emptied, to write files into behind the sources' backs."""
    store = S3Store(
        "tables",
        endpoint=options["AWS_ENDPOINT_URL"],
        region="us-east-1",
        access_key_id="writer",
        secret_access_key="x",
        client_options={"allow_http": True},
    )
    if held := [meta["path"] for page in obstore.list(store) for meta in page]:
        obstore.delete(store, held)
    return store


def put(bucket, path, table):
    content = io.BytesIO()
    pq.write_table(table, content, compression="none")
    obstore.put(bucket, path, content.getvalue())


def ids_of(source, keys=None):
    return [i for batch in source.snapshot().rows(keys) for i in batch.column("id").to_pylist()]


def test_a_prefix_is_a_table_with_its_partitions_and_without_its_neighbours(bucket, options):
    put(bucket, "docs/day=1/a.parquet", rows(["1", "2"]))
    put(bucket, "docs/day=2/b.parquet", rows(["3"]))
    put(bucket, "docs/_temporary/c.parquet", rows(["half"]))
    put(bucket, "docs2/d.parquet", rows(["other"]))
    mapping = ColumnMapping("id", "title", "body", ("day",))
    source = ParquetSource("s3://tables/docs", mapping, options=options)
    assert source.metadata_types() == {"day": "int"}
    assert ids_of(source) == ["1", "2", "3"]
    assert ids_of(source, {"3"}) == ["3"]
    slashed = ParquetSource("s3://tables/docs/", mapping, options=options)
    assert slashed.version() == source.version()


def test_one_object_and_a_whole_bucket_are_tables_too(bucket, options):
    put(bucket, "one.parquet", rows(["1"]))
    put(bucket, "one.parquet.d/x.parquet", rows(["2"]))
    assert ids_of(ParquetSource("s3://tables/one.parquet", MAPPING, options=options)) == ["1"]
    assert ids_of(ParquetSource("s3://tables", MAPPING, options=options)) == ["1", "2"]


def test_a_rewrite_of_the_same_size_within_the_second_is_another_version(bucket, options):
    source = ParquetSource("s3://tables/docs", MAPPING, options=options)
    versions = []
    for body in ("aaaa", "bbbb", "aaaa"):
        put(bucket, "docs/a.parquet", rows(["1"], body=body))
        versions.append(source.version())
    assert versions[0].version == versions[2].version != versions[1].version
    assert source.lag(versions[0]).versions == 0
    assert source.lag(versions[1]).versions is None


def test_an_object_that_is_another_or_gone_when_it_is_read_is_named(bucket, options):
    put(bucket, "docs/a.parquet", rows(["1"]))
    snapshot = ParquetSource("s3://tables/docs", MAPPING, options=options).snapshot()
    assert len(snapshot.hashes()) == 1
    put(bucket, "docs/a.parquet", rows(["1"], body="newer"))
    with pytest.raises(SourceChanged, match=r"a\.parquet is another file"):
        list(snapshot.rows(None))
    obstore.delete(bucket, "docs/a.parquet")
    with pytest.raises(SourceChanged, match=r"a\.parquet is gone"):
        list(snapshot.rows(None))


def test_a_cut_object_and_an_empty_prefix_are_named(bucket, options):
    put(bucket, "docs/a.parquet", rows(["1"]))
    whole = bytes(obstore.get(bucket, "docs/a.parquet").bytes())
    obstore.put(bucket, "docs/a.parquet", whole[:-5])
    source = ParquetSource("s3://tables/docs", MAPPING, options=options)
    with pytest.raises(FileUnreadable, match=r"a\.parquet is no complete Parquet file"):
        source.version()
    with pytest.raises(TableNotFound, match=r"no \.parquet files at s3://tables/nothing"):
        ParquetSource("s3://tables/nothing", MAPPING, options=options).version()


def test_delta_and_parquet_in_s3_are_read_by_one_query(bucket, options):
    write_deltalake("s3://tables/delta", rows(["1", "2"]), storage_options=options)
    put(bucket, "views/year=2025/a.parquet", pa.table({"id": ["1"], "views": [10]}))
    put(bucket, "views/year=2026/a.parquet", pa.table({"id": ["2"], "views": [20]}))
    put(bucket, "one/names.parquet", pa.table({"id": ["1", "2"], "name": ["x", "y"]}))
    source = SqlSource(
        "SELECT id, name AS title, body, views, year FROM d JOIN v USING (id) JOIN n USING (id)",
        {
            "d": "s3://tables/delta",
            "v": "s3://tables/views",
            "n": "s3://tables/one/names.parquet",
        },
        ColumnMapping("id", "title", "body", ("views", "year")),
        options=options,
    )
    found = [row for batch in source.snapshot().rows(None) for row in batch.to_pylist()]
    assert sorted((r["id"], r["title"], r["views"], r["year"]) for r in found) == [
        ("1", "x", 10, 2025), ("2", "y", 20, 2026),
    ]  # fmt: skip
    before = source.version()
    DeltaTable("s3://tables/delta", storage_options=options).delete("id = '1'")
    assert source.version().version != before.version
    assert set(source.snapshot().hashes()) == {"2"}


def test_a_query_reaches_no_object_but_its_tables(bucket, options):
    put(bucket, "docs/a.parquet", rows(["1"]))
    sql = "SELECT * FROM read_parquet('s3://tables/docs/a.parquet')"
    with pytest.raises(BadQuery, match="file system operations are disabled"):
        SqlSource(sql, {}, MAPPING, options=options).version()


def both(options, **changed):
    """A Parquet source and a query over Delta, at the same place with the same options."""
    settings = {**options, **changed}
    return (
        ParquetSource("s3://tables/docs", MAPPING, options=settings),
        SqlSource("SELECT * FROM d", {"d": "s3://tables/delta"}, MAPPING, options=settings),
    )


class Refusing(BaseHTTPRequestHandler):
    """What S3 answers to a key that it does not know."""

    def do_GET(self):
        said = b"<Error><Code>InvalidAccessKeyId</Code><Message>Unknown key</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_refused_credentials_are_named_and_the_secret_is_not(options):
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        try:
            for source in both(
                options, AWS_ENDPOINT_URL=f"http://127.0.0.1:{refusing.server_port}"
            ):
                with pytest.raises(SourceUnreadable, match=r"s3://tables/.*403") as refused:
                    source.version()
                assert SECRET not in str(refused.value)
                assert "\n" not in str(refused.value)
        finally:
            refusing.shutdown()


def test_a_store_that_is_down_or_an_option_that_is_unknown_is_named(options):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
        parquet, _ = both(options, AWS_ENDPOINT_URL=nowhere)
        with pytest.raises(SourceUnreadable, match="s3://tables/docs cannot be read") as refused:
            parquet.version()
    assert SECRET not in str(refused.value)
    parquet, _ = both(options, aws_no_such_option="1")
    with pytest.raises(SourceUnreadable, match=r"option is not known: .*'aws_no_such_option'"):
        parquet.version()
    with pytest.raises(SourceUnreadable, match="nope://x cannot be opened"):
        ParquetSource("nope://x", MAPPING).version()


def test_a_missing_bucket_is_named(options):
    with pytest.raises((SourceUnreadable, TableNotFound), match="s3://elsewhere"):
        ParquetSource("s3://elsewhere/docs", MAPPING, options=options).version()


def test_documents_in_a_bucket_are_read_by_name_or_url_and_a_replaced_one_is_noticed(
    bucket, options
):
    obstore.put(bucket, "papers/a/policy.pdf", PDF)
    obstore.put(bucket, "secret.txt", b"secret")
    folder = DocumentFolder("s3://tables/papers/", options, look_every_s=0)
    before = folder.listing()
    assert folder.read("a/policy.pdf", before) == PDF
    assert folder.read("s3://tables/papers/a/policy.pdf", before) == PDF
    for path in ("../secret.txt", "s3://tables/secret.txt", "/secret.txt", "a/../../secret.txt"):
        assert folder.mark(path, before) == "outside"
        with pytest.raises(PathRefused, match="leads out of s3://tables/papers"):
            folder.read(path, before)
    obstore.put(bucket, "papers/a/policy.pdf", PDF + b" ")
    after = folder.listing()
    assert folder.mark("a/policy.pdf", after) != folder.mark("a/policy.pdf", before)
    assert after.fingerprint != before.fingerprint
    obstore.delete(bucket, "papers/a/policy.pdf")
    with pytest.raises(PathRefused, match="cannot be read"):
        folder.read("a/policy.pdf", after)
    with pytest.raises(PathRefused, match="there is no file"):
        folder.read("a/policy.pdf", folder.listing())


def test_a_store_that_does_not_answer_ends_the_sync_and_blames_no_document(bucket, options):
    obstore.put(bucket, "papers/policy.pdf", PDF)
    folder = DocumentFolder("s3://tables/papers", options)
    listing = folder.listing()
    gone = DocumentFolder("s3://tables/papers", {**options, "AWS_ENDPOINT_URL": closed_port()})
    with pytest.raises(SourceUnreadable, match="s3://tables/papers cannot be read"):
        gone.read("policy.pdf", listing)


def closed_port():
    """Where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
