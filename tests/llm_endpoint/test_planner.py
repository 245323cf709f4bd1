"""Plans against sums done by hand."""

import pytest

from llm_endpoint.errors import ImpossiblePlan
from llm_endpoint.generation.gguf import cache_bytes_per_token
from llm_endpoint.serving.machine import this_cpu
from llm_endpoint.serving.planner import Device, Need, plan

MB = 1_000_000
CPU = Device("cpu", 10_000 * MB, 4)
CARDS = [Device("gpu0", 20_000 * MB), Device("gpu1", 40_000 * MB)]


def need(name, mb, device="cpu", **options):
    return Need(name, "model", device, {"weights": mb * MB}, **options)


def test_what_fits_is_placed_with_its_share_and_what_is_left_is_said():
    made = plan([CPU], [need("a", 2000, threads=8), need("b", 500, replicas=3)])
    first, second = made.placements
    assert (first.device, first.share, first.threads) == ("cpu", 0.2, 4)
    assert second.need.memory_bytes == 1500 * MB
    # 85% of the machine is for models.
    assert made.free == {"cpu": (8500 - 3500) * MB}
    assert made.of("b") == second
    assert made.of("elsewhere") is None


def test_what_does_not_fit_is_refused_with_the_numbers():
    needs = [need("a", 4000, replicas=2), need("b", 2000)]
    with pytest.raises(ImpossiblePlan) as refused:
        plan([CPU], needs)
    assert str(refused.value) == (
        "cpu has 8,500 MB for models (of 10,000), and 10,000 MB are needed, 1,501 MB too many: "
        "a 8,000 MB (2 replicas), b 2,000 MB; use fewer replicas, a smaller context or fewer models"
    )


def test_cards_are_filled_the_largest_first_where_most_room_is():
    needs = [need(f"m{mb}", mb, None) for mb in (5000, 30_000, 15_000)]
    made = plan([CPU, *CARDS], needs)
    assert [one.device for one in made.placements] == ["gpu1", "gpu1", "gpu0"]
    assert made.of("m30000").share == 0.75
    assert made.free["gpu1"] == (38_000 - 35_000) * MB


def test_every_device_that_is_too_small_is_named():
    with pytest.raises(ImpossiblePlan, match=r"cpu has .* a 9,000 MB; gpu0 has .* b 19,500 MB"):
        plan([CPU, *CARDS], [need("a", 9000), need("b", 19_500, "gpu0")])


@pytest.mark.parametrize("device", ["gpu3", None])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(
        ImpossiblePlan, match=r"model a needs (gpu3|a card), and the devices are cpu"
    ):
        plan([CPU], [need("a", 1, device)])


def test_the_cache_of_a_token_is_what_the_file_says(weights_dir):
    file = weights_dir / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    # Keys and values, 30 layers, 3 heads of 64, two bytes each.
    assert cache_bytes_per_token(file) == 2 * 30 * 3 * 64 * 2


def test_this_machine_has_memory_and_a_core():
    here = this_cpu()
    assert here.name == "cpu"
    assert here.cores >= 1
    assert here.memory_bytes > 100 * MB
