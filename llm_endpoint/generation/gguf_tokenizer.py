"""The tokenizer inside a GGUF file, for counting tokens without asking the engine."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence

from llm_endpoint.generation.gguf import read_gguf

_KEYS = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                  "tokenizer.ggml.merges", "tokenizer.ggml.token_type")  # fmt: skip
_CONTROL = 3
# How each family of models splits text before BPE; what is not here is counted by the engine.
_SPLITS: dict[str, tuple[PreTokenizer, ...]] = {
    "gpt-2": (ByteLevel(add_prefix_space=False),),
    "smollm": (Digits(individual_digits=True), ByteLevel(add_prefix_space=False)),
}


def load_gguf_tokenizer(file: Path) -> Tokenizer | None:
    """The byte-level BPE tokenizer of a GGUF file, or None where it has one of another kind.

    Control tokens written out in a text are recognised, as the engine does. Raises
    WeightsUnreadable.
    """
    found = read_gguf(file, _KEYS)
    split = _SPLITS.get(str(found.get("tokenizer.ggml.pre")))
    lists = [found.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type")]
    tokens, merges, kinds = (held if isinstance(held, list) else [] for held in lists)
    if split is None or not (tokens and merges and kinds):
        return None
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer = Sequence(list(split))
    controls = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens(controls)
    return tokenizer
