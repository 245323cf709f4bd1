"""How the vectors of an index's newest change lie beside all before it, kept from sync to sync.

    <state>/drift/<index>.json    the gauges of the last sync that wrote vectors, and the sums
                                  over all vectors written so far, which the next is held against

A gauge, not a ledger: what was replaced or deleted stays in the sums until a rebuild, and a sync
that is killed right after it published is missing from them.
"""

import dataclasses
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.settings import Settings
from headrace.state_file import replace_file
from llm_endpoint.embedding.protocol import EmbedderInfo
from pipelines.embedding_drift import DriftGauges, Moments, gauges, no_moments
from pipelines.sync import SyncReport

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drift:
    """The gauges of the generation that wrote vectors last; None where there is no number.

    As `DriftGauges`: mean_cosine and index_spread are None for the first vectors of all.
    """

    generation: str
    vectors: int
    mean_cosine: float | None
    spread: float | None
    index_spread: float | None
    near_zero_share: float | None


def record_drift(
    settings: Settings, name: str, report: SyncReport, embedder: EmbedderInfo
) -> DriftGauges | None:
    """The gauges of a sync, kept for `last_drift`; None of one that wrote no vectors.

    Another embedder's sums tell nothing about this one's, and are let go.
    """
    commit = report.moments
    if commit is None or not commit.count:
        return None
    file = _file(settings, name)
    made_by = [embedder.id, embedder.weights_sha256, embedder.dim]
    before = _sums(file, made_by, embedder.dim)
    found = gauges(commit, before)
    after = commit if report.mode == "rebuild" else before + commit
    told = dataclasses.asdict(_drift(report.version.generation, found))
    form = {
        "embedder": made_by,
        "drift": told,
        "index": {
            "count": after.count,
            "near_zero": after.near_zero,
            "total": after.total.tolist(),
        },
    }
    replace_file(file, json.dumps(form))
    _log.info("drift index=%s %s", name, " ".join(f"{key}={told[key]}" for key in told))
    return found


def last_drift(settings: Settings, name: str) -> Drift | None:
    """The gauges of the last sync that wrote vectors, None before the first."""
    form = _read(_file(settings, name))
    return None if form is None else Drift(**form["drift"])


def _drift(generation: str, found: DriftGauges) -> Drift:
    return Drift(
        generation,
        found.vectors,
        _number(found.mean_cosine),
        _number(found.spread),
        _number(found.index_spread),
        _number(found.near_zero_share),
    )


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _sums(file: Path, made_by: list[object], dim: int) -> Moments:
    form = _read(file)
    if form is None or form["embedder"] != made_by:
        return no_moments(dim)
    kept = form["index"]
    return Moments(kept["count"], kept["near_zero"], np.array(kept["total"], np.float64))


def _read(file: Path) -> dict[str, Any] | None:
    try:
        form: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return form


def _file(settings: Settings, name: str) -> Path:
    return settings.state_dir / "drift" / f"{name}.json"
