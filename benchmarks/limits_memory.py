"""The processes whose memory benchmarks/limits.py measures; each prints one JSON object."""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import psutil
from corpora import Floats, K, clustered
from published import ACCESS, index_settings, make_delta, source_version

from vector_index.local import LocalIndex

_QUERIES = 256


def main() -> None:
    """Is the process that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("child", choices=tuple(_CHILDREN))
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--dim", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(_CHILDREN[options.child](options)))


def _written_child(options: argparse.Namespace) -> dict[str, float]:
    """Leaves vectors, queries and an index in `home`: the others have not made them themselves."""
    drawn = clustered(options.rows + _QUERIES, options.dim)
    np.save(options.home / "queries.npy", drawn[:_QUERIES])
    np.save(options.home / "vectors.npy", drawn[_QUERIES:])
    _flat_index(options.home / "large", options).publish(
        make_delta(drawn[_QUERIES:]), source_version(1)
    )
    _flat_index(options.home / "small", options).publish(
        make_delta(drawn[:_QUERIES]), source_version(1)
    )
    return {}


def _publish_child(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=options.home) as folder:
        index = _flat_index(Path(folder), options)
        # What libraries take once is not the publish's.
        index.publish(make_delta(np.load(options.home / "queries.npy")), source_version(1))
        before = _resident_bytes()
        delta = make_delta(np.load(options.home / "vectors.npy"), first=_QUERIES)
        held = _resident_bytes() - before
        _forget_peak()
        index.publish(delta, source_version(2))
        peak = _peak_bytes() - before
        size = delta.vectors.nbytes
        return {
            "share": peak / size,
            "the delta alone (vectors, keys, text)": held / size,
            "so publishing itself": (peak - held) / size,
        }


def _resident_child(options: argparse.Namespace) -> dict[str, float]:
    queries = np.load(options.home / "queries.npy")
    small = _flat_index(options.home / "small", options)
    _search_all(small, queries)  # what libraries take once is not the index's
    before = _resident_bytes()
    index = _flat_index(options.home / "large", options)
    opened = _resident_bytes() - before
    _search_all(index, queries)
    size = options.rows * options.dim * 4
    held, text = _resident_bytes() - before, _mapped_bytes("/large/", "/passages/")
    return {
        "share": (held - text) / size,
        "after opening": opened / size,
        "mapped vectors": _mapped_bytes("/large/", "/segments/") / size,
        "pages of the text around the hits, which are the page cache's": text / size,
    }


def _mapped_bytes(*parts: str) -> int:
    """Resident bytes of the mapped files whose path holds all these parts."""
    maps = psutil.Process().memory_maps(grouped=False)
    return sum(m.rss for m in maps if all(part in m.path for part in parts))


def _flat_index(home: Path, options: argparse.Namespace) -> LocalIndex:
    return LocalIndex(home, index_settings("flat", options.dim))


def _search_all(index: LocalIndex, queries: Floats) -> None:
    for query in queries:
        index.search(query, k=K, access=ACCESS)


_CHILDREN = {"publish": _publish_child, "written": _written_child, "resident": _resident_child}


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _forget_peak() -> None:
    """Sets the kernel's high-water mark to what is resident now (proc(5), clear_refs 5)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    """As ru_maxrss, but since _forget_peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
