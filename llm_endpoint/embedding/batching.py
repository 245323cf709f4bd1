"""Texts of like length in one batch: padding is computed like any other token."""

from collections.abc import Iterator, Sequence

from llm_endpoint.embedding.encoder import Tokens

# Padded tokens per run. Of 256, 1024 and 4096, 1024 was the fastest on 2 cores.
BATCH_TOKENS = 1024


def batches(tokens: Sequence[Tokens], most_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Every position once, shortest texts first: at most `most_tokens` padded tokens a batch, one
    text at least."""
    order = sorted(range(len(tokens)), key=lambda position: len(tokens[position]))
    batch: list[int] = []
    for position in order:
        # Sorted ascending: this text is the widest so far and sets the padding for all.
        if batch and len(tokens[position]) * (len(batch) + 1) > most_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
