"""Fixtures of this folder; what is computed by hand is in by_hand.py."""

import pytest
from by_hand import delta, passage, unit

from vector_index.milvus import MilvusPlace


@pytest.fixture
def milvus_place(tmp_path):
    """A Milvus of its own in this process."""
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus.client.cache import GlobalCache

    place = MilvusPlace(str(tmp_path / "milvus.db"))
    yield place
    server_manager_instance.release_server(place.uri)
    # pymilvus remembers schemas by address: the next server may get the same port, and our
    # collections have the same names.
    GlobalCache._reset_for_testing()


@pytest.fixture
def four():
    return delta(
        [
            (passage("a", kind="function", views=1, tags=["x"]), unit(1, 0)),
            (passage("b", kind="class", views=10, tags=["x", "y"]), unit(4, 3)),
            (passage("c", kind="function", views=None, tags=[]), unit(3, 4)),
            (passage("secret", groups=("board",), kind="class"), unit(1, 0)),
        ]
    )
