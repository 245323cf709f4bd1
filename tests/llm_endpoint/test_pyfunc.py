"""Which folders a model may be loaded from; that it is served is tested with MLflow itself, in
tests/components/test_pyfunc.py."""

import asyncio

import pytest

from llm_endpoint.errors import EngineBusy, EngineUnavailable, ModelFolderRefused
from llm_endpoint.pyfunc import PyfuncScorer, check_model_folder

MANIFEST = "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"


@pytest.fixture
def allowed(tmp_path):
    folder = tmp_path / "allowed"
    for place in (folder / "model", tmp_path / "elsewhere"):
        place.mkdir(parents=True)
        (place / "MLmodel").write_text(MANIFEST)
    return folder


def test_a_model_below_a_configured_folder_is_taken_with_its_links_resolved(allowed):
    (allowed / "latest").symlink_to(allowed / "model")
    assert check_model_folder(allowed / "latest", [allowed]) == (allowed / "model").resolve()


def test_a_model_elsewhere_is_refused_however_its_path_is_written(allowed):
    (allowed / "link").symlink_to(allowed.parent / "elsewhere")
    (allowed / "circle").symlink_to(allowed / "circle")
    for path, reason in (
        (allowed.parent / "elsewhere", "is not below any of `pyfunc_folders`"),
        (allowed / ".." / "elsewhere", "is not below any"),
        (allowed / "link", "elsewhere\\) is not below any"),
        (allowed / "circle", "is not there"),
        (allowed / "none", "is not there"),
        (allowed.parent / "allowed2", "is not there"),
        (allowed, "has no file MLmodel"),
    ):
        with pytest.raises(ModelFolderRefused, match=reason):
            check_model_folder(path, [allowed])
    with pytest.raises(ModelFolderRefused, match=r"pyfunc_folders` \(none\)"):
        check_model_folder(allowed / "model", [])


def test_a_model_without_a_python_function_is_refused(allowed):
    (allowed / "model" / "MLmodel").write_text("flavors: {spark: {}}\n")
    with pytest.raises(ModelFolderRefused, match="no flavor python_function"):
        check_model_folder(allowed / "model", [allowed])


async def _asked(scorer):
    return await scorer.invoke(b"{}", "application/json")


def test_an_environment_without_mlflow_is_an_error_that_ends_with_its_log(allowed, tmp_path):
    log = tmp_path / "log"
    scorer = PyfuncScorer(allowed / "model", name="m", log_file=log, timeout_s=2.0, queue=0)

    async def run():
        scorer.start()
        try:
            with pytest.raises(EngineUnavailable, match=r"(?s)the engine of m.*No module named"):
                await _asked(scorer)
            many = [_asked(scorer) for _ in range(5)]
            ended = await asyncio.gather(*many, return_exceptions=True)
            assert sorted({type(one) for one in ended}, key=str) == [EngineBusy, EngineUnavailable]
        finally:
            await scorer.close()

    asyncio.run(run())
