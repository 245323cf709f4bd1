"""`headrace query`."""

import asyncio
import dataclasses
import json as json_module
from itertools import groupby

from feature_store.features import Feature
from headrace import assembly
from headrace.settings import Settings, load_settings
from llm_endpoint.embedding.onnx import OnnxEmbedder
from rag_chain.answer import Answer
from rag_chain.chain import check_question


def run_query(question: str, index_name: str, user: str | None, as_json: bool) -> None:
    """Asks in this process: starts the model, answers, stops it."""
    settings = load_settings()
    check_question(question)
    assembly.index_section(settings, index_name)
    embedder = assembly.build_embedder(settings)
    answer = asyncio.run(ask(settings, index_name, question, embedder, user=user))
    if as_json:
        print(json_module.dumps(dataclasses.asdict(answer), default=str))
    else:
        print_answer(answer)


async def ask(
    settings: Settings, index_name: str, question: str, embedder: OnnxEmbedder, *, user: str | None
) -> Answer:
    """One answer from a generator that lives only for it."""
    generator = assembly.build_generator(settings)
    generator.start()
    try:
        source = assembly.build_source(settings, index_name)
        index = assembly.build_index(settings, index_name, embedder)
        chain = assembly.build_chain(
            settings,
            index,
            embedder,
            generator,
            features=assembly.build_features(settings),
            lag=lambda: source.lag(index.version().source),
        )
        return await chain.answer(question, access=assembly.access_of(settings), user=user)
    finally:
        await generator.close()


def print_answer(answer: Answer) -> None:
    """The answer, its citations, and what it was built from."""
    print(answer.text)
    for citation in answer.citations:
        print(
            f"  [{citation.marker}] {citation.document_id}, characters "
            f"{citation.start}-{citation.end}, score {citation.score:.2f}, "
            f"{citation.origin} (support {citation.support:.2f})"
        )
    for (view, key), group in groupby(answer.features, lambda fact: (fact.view, fact.key)):
        facts = ", ".join(_fact(feature) for feature in group)
        print(f"  {view} of {key}: {facts}")
    timings = ", ".join(f"{name} {value:.2f} s" for name, value in answer.timings_s.items())
    lag = "unmeasured" if answer.lag is None else f"{answer.lag.seconds:.0f} s behind the table"
    print(
        f"  from {answer.version.generation} ({lag}), "
        f"{answer.model}, {answer.usage.prompt_tokens}+{answer.usage.completion_tokens} tokens, "
        f"{timings}"
    )


def _fact(feature: Feature) -> str:
    state = "stale, not used" if feature.is_stale else f"{feature.age_s:.0f} s old"
    return f"{feature.name} {feature.value} ({state})"
