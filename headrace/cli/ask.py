"""`headrace query`."""

import asyncio
import dataclasses
import json as json_module

from headrace import assembly
from headrace.settings import Settings, load_settings
from llm_endpoint.embedding.onnx import OnnxEmbedder
from rag_chain.answer import Answer
from rag_chain.chain import check_question


def run_query(question: str, index_name: str, as_json: bool) -> None:
    """Asks in this process: starts the model, answers, stops it."""
    settings = load_settings()
    check_question(question)
    assembly.index_section(settings, index_name)
    answer = asyncio.run(ask(settings, index_name, question, assembly.build_embedder(settings)))
    if as_json:
        print(json_module.dumps(dataclasses.asdict(answer), default=str))
    else:
        print_answer(answer)


async def ask(settings: Settings, index_name: str, question: str, embedder: OnnxEmbedder) -> Answer:
    """One answer from a generator that lives only for it."""
    generator = assembly.build_generator(settings)
    generator.start()
    try:
        source = assembly.build_source(settings, index_name)
        index = assembly.build_index(settings, index_name, embedder)
        chain = assembly.build_chain(
            settings, index, embedder, generator, lag=lambda: source.lag(index.version().source)
        )
        return await chain.answer(question, access=assembly.access_of(settings))
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
    timings = ", ".join(f"{name} {value:.2f} s" for name, value in answer.timings_s.items())
    lag = "unmeasured" if answer.lag is None else f"{answer.lag.seconds:.0f} s behind the table"
    print(
        f"  from {answer.version.generation} ({lag}), "
        f"{answer.model}, {answer.usage.prompt_tokens}+{answer.usage.completion_tokens} tokens, "
        f"{timings}"
    )
