"""Settings: one line for what is wrong, naming key, value and what is allowed."""

import json

import pytest
import yaml

from headrace.indexes import build_source
from headrace.settings import load_settings
from headrace.settings_file import InvalidSettings

GOOD = {
    "models": {
        "embed": {"task": "embedding", "engine": "onnx", "weights": "w"},
        "write": {"task": "generation", "engine": "llama.cpp", "weights": "w"},
        "far": {"task": "generation", "engine": "openai", "base_url": "http://127.0.0.1:1/v1",
                "model": "m", "api_key": "${FAR_KEY}"},
    },
    "indexes": {"docs": {"source": {"path": "tables/docs"}, "embedder": "embed", "key": "id",
                         "title": "title", "text": "body"}},
    "chains": {"docs": {"index": "docs", "model": "write"}},
    "principal": {"tenant": "t", "groups": ["g"]},
}  # fmt: skip


@pytest.fixture
def load(tmp_path, monkeypatch):
    def write_and_load(form, **environment):
        file = tmp_path / "headrace.yaml"
        file.write_text(form if isinstance(form, str) else yaml.safe_dump(form, sort_keys=False))
        monkeypatch.setenv("HEADRACE_CONFIG", str(file))
        for name in ("HEADRACE_WEIGHTS_DIR", "HEADRACE_STATE_DIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"FAR_KEY": "s3cret", **environment}.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return write_and_load


def changed(path, value):
    form = json.loads(json.dumps(GOOD))
    *above, last = path.split(".")
    section = form
    for key in above:
        section = section.setdefault(key, {})
    section[last] = value
    return form


def test_relative_paths_are_relative_to_the_file_and_absolute_ones_stay(load, tmp_path):
    settings = load(changed("state_dir", "/var/lib/headrace"))
    assert settings.indexes["docs"].source.path == str(tmp_path / "tables" / "docs")
    assert str(settings.weights) == "/var/lib/headrace/weights"
    assert load(GOOD).state_dir == tmp_path / ".headrace"


def test_a_document_column_holds_paths_where_a_folder_is_given_and_else_bytes(load, tmp_path):
    for folder, holds in (({}, "bytes"), ({"folder": "papers"}, "paths")):
        form = changed("indexes.docs.document", {"column": "file", **folder})
        del form["indexes"]["docs"]["text"]
        settings = load(form)
        assert (build_source(settings, "docs").mapping.text_from, holds) == (holds, holds)
    assert settings.indexes["docs"].document.folder == str(tmp_path / "papers")
    assert settings.indexes["docs"].text_column == "file"


def test_a_secret_comes_from_the_environment_and_is_never_shown(load):
    settings = load(GOOD)
    assert settings.models["far"].api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in json.dumps(settings.model_dump(mode="json"))


def test_the_environment_goes_before_the_file(load):
    assert load(GOOD, HEADRACE_CHAINS__DOCS__K="7").chains["docs"].k == 7


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (changed("gateway.prot", 1), ("gateway", "'prot'", "value 1", "allowed: host, port")),
        (changed("colour", "red"), ("'colour'", "'red'", "allowed: state_dir")),
        (changed("models.write.threads", 0), ("models.write.threads", "got 0", "equal to 1")),
        (changed("models.write.engine", "gguf"), ("models.write", "'gguf'", "'llama.cpp'")),
        (changed("models.far.base_url", "ftp://x"), ("models.far.base_url", "'ftp://x'")),
        (changed("models.far.api_key", "${NO_SUCH}"), ("models.far.api_key", "'NO_SUCH'")),
        (changed("indexes.docs.kind", "tree"), ("indexes.docs.kind", "'tree'", "'flat'")),
        (changed("indexes.docs.embedder", "write"), ("indexes.docs.embedder", "'write'", "embed")),
        (changed("indexes.docs.document", {"column": "c"}), ("indexes.docs", "either text")),
        (changed("indexes.docs.document", {"colum": "c"}), ("docs.document", "'colum'", "folder")),
        (changed("indexes.docs.gpu", 3), ("indexes.docs.gpu", "no card '3'", "known: none")),
        (changed("chains.docs.index", "nope"), ("chains.docs.index", "'nope'", "known: docs")),
        (changed("chains.docs.model", "embed"), ("chains.docs.model", "'embed'", "far, write")),
        (changed("chains.docs.k", "many"), ("chains.docs.k", "'many'", "integer")),
        (changed("chains.docs.min_score", 2), ("chains.docs.min_score", "got 2", "equal to 1")),
        (changed("chains.docs.features", {"user_view": "u", "document_view": "d"}),
         ("chains.docs.features", "no section 'features'")),
        (changed("chains.docs.rerank.model", "embed"), ("chains.docs.rerank.model", "'embed'")),
        (changed("chains.docs.retrieval", "magic"), ("chains.docs.retrieval", "'magic'", "hybrid")),
        (changed("gateway.host", "0.0.0.0"), ("gateway.host", "'0.0.0.0'", "'127.0.0.1'")),
        ("a: [", ("not valid YAML",)),
        ("just text", ("mapping", "'just text'")),
    ],
)  # fmt: skip
def test_a_bad_setting_is_one_line_naming_key_value_and_what_is_allowed(load, form, words):
    with pytest.raises(InvalidSettings) as caught:
        load(form)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("headrace.yaml", *words):
        assert word in message


def test_an_override_of_no_section_is_refused_by_name(load):
    with pytest.raises(InvalidSettings, match="HEADRACE_GATWAY__PORT overrides 'gatway'"):
        load(GOOD, HEADRACE_GATWAY__PORT="1")


def test_a_bad_setting_ends_a_command_with_exit_code_2(synced):
    done = synced.run("index", "status", "docs", HEADRACE_CHAINS__DOCS__K="0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "chains.docs.k" in done.stderr
    missing = synced.run("index", "status", "docs", HEADRACE_CONFIG="no.yaml")
    assert (missing.returncode, "no settings file at no.yaml" in missing.stderr) == (2, True)


def test_config_show_prints_the_file_its_overrides_and_the_defaults(synced):
    shown = json.loads(synced.run("config", "show", "--json", HEADRACE_CHAINS__DOCS__K="5").stdout)
    assert (shown["chains"]["docs"]["k"], shown["chains"]["docs"]["min_score"]) == (5, 0.35)
    assert shown["principal"]["tenant"] == "python"
