"""`headrace doctor` on a healthy workspace and on broken ones."""

import json
import shutil
import socket

import pytest


@pytest.fixture
def examine(synced_workspace):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def run(**overrides):
        done = synced_workspace.run(
            "doctor", "--json", **{"HEADRACE_GATEWAY__PORT": port, **overrides}
        )
        return done.returncode, {f["check"]: f for f in json.loads(done.stdout)}

    return run


def test_a_healthy_workspace_has_nothing_to_mend(examine):
    code, findings = examine()
    assert [f for f in findings.values() if not f["is_fine"]] == []
    assert code == 0
    assert {"environment", "model minilm", "model smollm2", "table of docs", "index docs",
            "features", "port"} < set(findings)  # fmt: skip


def test_every_broken_part_is_named_and_the_others_are_still_checked(examine, synced_workspace):
    shutil.rmtree(synced_workspace.table)
    (passages,) = synced_workspace.folder.glob(
        ".headrace/indexes/docs/generations/*/passages/*s.arrow"
    )
    passages.write_bytes(passages.read_bytes()[:-1] + b"?")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, findings = examine(
            HEADRACE_GATEWAY__PORT=str(taken.getsockname()[1]),
            HEADRACE_MODELS__SMOLLM2__WEIGHTS="smollm3",
            HEADRACE_MODELS__OURS='{"task": "pyfunc", "engine": "pyfunc", "path": "feature_store"}',
            HEADRACE_GPUS='{"9": {"memory_mb": 100}}',
            HEADRACE_CHAINS__DOCS__FEATURES__PROMPT_FEATURES='["mood"]',
        )
    assert code == 1
    wrong = {check: f["detail"] for check, f in findings.items() if not f["is_fine"]}
    assert set(wrong) == {"model smollm2", "model ours", "gpu 9", "table of docs", "index docs",
                          "features", "port"}  # fmt: skip
    assert "'smollm3'" in wrong["model smollm2"]
    assert "not below any of `pyfunc_folders` (none)" in wrong["model ours"]
    assert "gpu 9 was asked for" in wrong["gpu 9"]
    assert "no Delta table at" in wrong["table of docs"]
    assert "sha256" in wrong["index docs"]
    assert "no feature 'mood'" in wrong["features"]
    assert "cannot be bound" in wrong["port"]


def test_an_index_that_was_never_published_says_what_to_run(examine, synced_workspace):
    shutil.rmtree(synced_workspace.folder / ".headrace" / "indexes")
    _, findings = examine()
    assert "headrace index sync docs" in findings["index docs"]["detail"]
