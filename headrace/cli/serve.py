"""`headrace serve`."""

import uvicorn

from headrace.cli.progress import working
from headrace.serving import build_app
from headrace.settings import load_settings


def run_serve() -> None:
    """Serves until interrupted; streams get ten seconds to end."""
    settings = load_settings()
    gateway = settings.gateway
    with working("loading models and features"):
        app = build_app(settings)
    print(f"serving http://{gateway.host}:{gateway.port} (API: /docs)", flush=True)
    uvicorn.run(
        app,
        host=gateway.host,
        port=gateway.port,
        log_level="warning",
        timeout_graceful_shutdown=10,
    )
