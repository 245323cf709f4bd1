"""`headrace models plan|ps|load|unload`."""

import json as json_module

from gateway.models import ModelForm, ModelsForm
from headrace.planning import plan_of
from headrace.running_server import ask_server
from headrace.settings import load_settings
from llm_endpoint.serving.planner import Plan

_MB = 1_000_000


def run_plan(as_json: bool) -> None:
    """Prints who runs where with which share; a plan that is impossible ends the command."""
    made = plan_of(load_settings())
    if as_json:
        print(json_module.dumps(_plan_form(made)))
        return
    for device in made.devices:
        cores = f", {device.cores} cores" if device.cores else ""
        print(f"{device.name}: {device.memory_bytes // _MB:,} MB{cores}, "
              f"{made.free[device.name] // _MB:,} MB free for models")  # fmt: skip
        for one in (p for p in made.placements if p.device == device.name):
            parts = ", ".join(f"{what} {size // _MB:,}" for what, size in one.need.parts.items())
            threads = f", {one.threads} threads" if one.threads else ""
            print(f"  {one.need.what} {one.need.name:20} {one.need.memory_bytes // _MB:>8,} MB  "
                  f"{one.share:6.1%}  x{one.need.replicas}{threads}  ({parts})")  # fmt: skip


def run_ps(as_json: bool) -> None:
    """Prints a line a model of the running server."""
    answer = ask_server(load_settings(), "GET", "/models")
    if as_json:
        print(answer)
        return
    shown = ModelsForm.model_validate_json(answer)
    for model in shown.models:
        print(_line(model))
        for replica in model.replicas:
            pid = "" if replica.pid is None else f", pid {replica.pid}"
            print(f"  replica {replica.number}: {replica.state}, {replica.in_flight} in flight, "
                  f"idle {replica.idle_s:.0f} s{pid}")  # fmt: skip
    for endpoint in shown.endpoints:
        shares = ", ".join(f"{name} {count}" for name, count in endpoint.requests.items())
        print(f"endpoint {endpoint.name}: {endpoint.in_flight} in flight; answered by {shares}; "
              f"fallen back {endpoint.fallen_back}")  # fmt: skip


def run_load(name: str, as_json: bool) -> None:
    """Starts a model of the running server."""
    _change(name, "load", as_json)


def run_unload(name: str, as_json: bool) -> None:
    """Ends a model of the running server until it is asked for again."""
    _change(name, "unload", as_json)


def _change(name: str, what: str, as_json: bool) -> None:
    answer = ask_server(load_settings(), "POST", f"/models/{name}/{what}")
    print(answer if as_json else _line(ModelForm.model_validate_json(answer)))


def _line(model: ModelForm) -> str:
    return (
        f"{model.name:20} {model.task:12} {model.engine:12} {model.state:10} "
        f"{model.waiting} waiting  {model.weights}"
    )


def _plan_form(made: Plan) -> dict[str, object]:
    return {
        "devices": [
            {
                "name": device.name,
                "memory_bytes": device.memory_bytes,
                "cores": device.cores,
                "free_bytes": made.free[device.name],
            }
            for device in made.devices
        ],
        "placements": [
            {
                "name": one.need.name,
                "what": one.need.what,
                "device": one.device,
                "memory_bytes": one.need.memory_bytes,
                "parts": dict(one.need.parts),
                "share": one.share,
                "threads": one.threads,
                "replicas": one.need.replicas,
            }
            for one in made.placements
        ],
    }
