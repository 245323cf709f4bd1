"""MLflow models of headrace.yaml: from which folder, in which environment, with which address."""

from headrace.model_settings import PyfuncModel
from headrace.settings import Settings
from headrace.settings_file import InvalidSettings
from llm_endpoint.pyfunc import PyfuncScorer, check_model_folder

# The server has no keys yet, and OpenAI's clients refuse to start without one.
_NO_KEY = "none"


def build_scorer(settings: Settings, name: str) -> PyfuncScorer:
    """The MLflow model of that name, not started yet.

    Raises ModelFolderRefused, InvalidSettings for an interpreter that is not there.
    """
    section = settings.models[name]
    assert isinstance(section, PyfuncModel)
    if section.python is not None and not section.python.is_file():
        raise InvalidSettings(
            f"models.{name}.python: there is no {section.python}; name the interpreter of an "
            "environment that has MLflow (`python -m venv …`, `pip install mlflow`)"
        )
    return PyfuncScorer(
        check_model_folder(section.path, settings.pyfunc_folders),
        name=name,
        python=section.python,
        log_file=settings.state_dir / "logs" / f"{name}.log",
        environment={
            **_address(settings),
            **{key: value.get_secret_value() for key, value in section.environment.items()},
        },
        parallel=section.parallel,
        queue=section.queue,
        timeout_s=section.timeout_s,
        start_timeout_s=section.start_timeout_s,
    )


def _address(settings: Settings) -> dict[str, str]:
    """Where this server is, in the variables that OpenAI's and LangChain's clients read."""
    host, port = settings.gateway.host, settings.gateway.port
    shown = f"[{host}]" if ":" in host else host
    return {
        "OPENAI_BASE_URL": f"http://{shown}:{port}/v1",
        "OPENAI_API_BASE": f"http://{shown}:{port}/v1",
        "OPENAI_API_KEY": _NO_KEY,
    }
