"""Where a model's files are: in the catalogue's folder, or in one of the operator's own."""

from dataclasses import dataclass
from pathlib import Path

from headrace.settings import Settings
from llm_endpoint import resolve
from llm_endpoint.errors import WeightsMissing
from llm_endpoint.weights import sha256_of


@dataclass(frozen=True, slots=True)
class Weights:
    """The file that stands for a model, its SHA-256, and what the model is called."""

    file: Path
    name: str
    sha256: str


def weights_of(settings: Settings, weights: str, pattern: str) -> Weights:
    """Of a catalogue name, or of a folder with one file of that pattern (of several with the same
    ending, the first is read by the engine; all belong together).

    A file in a folder is hashed at each start. Raises WeightsMissing, UnknownModel.
    """
    source = resolve(weights, settings.weights)
    if source.card is not None:
        card = source.card
        return Weights(source.folder / card.main_file, card.name, card.weights_sha256)
    file = next(iter(sorted(source.folder.glob(pattern))), None)
    if file is None:
        raise WeightsMissing(source.folder / pattern, fix=f"put a {pattern} into that folder")
    return Weights(file, source.folder.name, sha256_of(file))
