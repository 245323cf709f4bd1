"""`headrace query`."""

import asyncio
import dataclasses
import json as json_module
from itertools import groupby

from feature_store.features import Feature
from headrace import assembly, indexes
from headrace.cli.progress import working
from headrace.served import build_served
from headrace.settings import Settings, load_settings
from rag_chain.answer import Answer
from rag_chain.question import Question, check_question
from rag_chain.retrieval import Retriever
from vector_index.errors import InvalidFilter
from vector_index.filters import parse_filter


def run_query(
    text: str, chain: str | None, user: str | None, k: int | None, where: str | None, as_json: bool
) -> None:
    """Asks in this process: starts the model, answers, stops it."""
    settings = load_settings()
    check_question(text)
    name = assembly.chain_name(settings, chain)
    with working("loading models and features, then asking"):
        answer = asyncio.run(ask(settings, name, text, user=user, k=k, where=where))
    if as_json:
        print(json_module.dumps(dataclasses.asdict(answer), default=str))
    else:
        print_answer(answer)


async def ask(
    settings: Settings,
    chain_name: str,
    text: str,
    *,
    user: str | None = None,
    k: int | None = None,
    where: str | None = None,
) -> Answer:
    """One answer from a generator that lives only for it. where: a filter as JSON."""
    section = settings.chains[chain_name]
    embedder = assembly.build_embedder(settings, settings.indexes[section.index].embedder)
    index = indexes.open_index(settings, section.index, embedder)
    tree = None if where is None else parse_filter(parse_json(where), index.metadata_columns)
    has_table = section.index in settings.table_indexes
    source = indexes.build_source(settings, section.index) if has_table else None
    served = build_served(settings, section.model)
    reranker = None
    if section.rerank is not None:
        reranker = assembly.build_reranker(
            settings, section.rerank.model, lambda model: assembly.build_embedder(settings, model)
        )
    try:
        chain = assembly.build_chain(
            settings,
            chain_name,
            retriever=Retriever(index, embedder),
            generator=served.engine(section.model),
            features=assembly.build_features(settings),
            reranker=reranker,
            lag=lambda: None if source is None else source.lag(index.version().source),
        )
        return await chain.answer(Question(text, assembly.access_of(settings), k, tree, user))
    finally:
        if reranker is not None:
            await reranker.close()
        await served.close()


def parse_json(text: str) -> object:
    """A JSON text given on the command line. Raises InvalidFilter for what is none."""
    try:
        return json_module.loads(text)
    except ValueError as exc:
        raise InvalidFilter(f"the filter {text!r} is not JSON: {exc}") from exc


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
