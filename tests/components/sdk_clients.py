"""`sdk_clients.py CLIENT BASE_URL`: what a client library does with a server, as JSON.

Runs in an environment of its own: openai 2, langchain-openai and LlamaIndex, none of which our own
tests may meet.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

MODEL, EMBEDDER, RAG = "smollm2", "minilm", "rag/notes"
TEXTS = ["Refunds take 14 days.", "The kitchen closes at nine."]
QUESTION = "How long do refunds take?"


def openai_2(base_url):
    import openai

    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
    chunks = list(
        client.chat.completions.create(
            **asked, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    events = list(
        client.responses.create(model=MODEL, input="Hi", max_output_tokens=8, stream=True)
    )
    rag = client.chat.completions.create(
        model=RAG, messages=[{"role": "user", "content": QUESTION}]
    )
    try:
        client.chat.completions.create(**asked, n=2)
        refused = None
    except openai.BadRequestError as error:
        refused = [error.param, error.code]
    return {
        "models": sorted(model.id for model in client.models.list()),
        "chat": client.chat.completions.create(**asked, max_tokens=8).choices[0].message.content,
        "pieces": [c.choices[0].delta.content or "" for c in chunks if c.choices],
        "usage": chunks[-1].usage.completion_tokens,
        "events": [event.type for event in events],
        "rag": rag.model_extra["headrace"],
        "vectors": [one.embedding for one in client.embeddings.create(
            model=EMBEDDER, input=TEXTS).data],
        "refused": refused,
    }  # fmt: skip


def langchain(base_url):
    # LlamaIndex brings OpenAI's vocabulary cl100k_base, which tiktoken else downloads.
    import llama_index.core
    import openai
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    brought = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(brought)
    where = {"base_url": base_url, "api_key": "none", "max_retries": 0}
    chat = ChatOpenAI(model=MODEL, max_tokens=8, **where)
    rag = ChatOpenAI(model=RAG, **where)
    texts = OpenAIEmbeddings(model=EMBEDDER, check_embedding_ctx_length=False, **where)
    try:
        OpenAIEmbeddings(model=EMBEDDER, **where).embed_documents(["Refunds: идёмте, 日本語"])
        refused = None
    except openai.BadRequestError as error:
        refused = str(error)
    whole = chat.invoke("Say hello.")
    return {
        "chat": whole.content,
        "usage": whole.usage_metadata["output_tokens"],
        "pieces": [piece.content for piece in chat.stream("Say hello.")],
        "responses": ChatOpenAI(model=MODEL, use_responses_api=True, max_tokens=8, **where)
        .invoke("Say hello.").text,
        "rag": rag.invoke(QUESTION).content,
        "vectors": texts.embed_documents(TEXTS),
        "question": texts.embed_query(TEXTS[0]),
        "refused": refused,
    }  # fmt: skip


def llama_index(base_url):
    from llama_index.core.llms import ChatMessage
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.llms.openai_like import OpenAILike

    where = {"api_base": base_url, "api_key": "none", "max_retries": 0}
    chat = OpenAILike(model=MODEL, is_chat_model=True, max_tokens=8, **where)
    plain = OpenAILike(model=MODEL, max_tokens=8, **where)
    rag = OpenAILike(model=RAG, is_chat_model=True, **where)
    embedding = OpenAILikeEmbedding(model_name=EMBEDDER, **where)
    hello = [ChatMessage(role="user", content="Say hello.")]
    return {
        "chat": chat.chat(hello).message.content,
        "pieces": [piece.delta for piece in chat.stream_chat(hello)],
        "plain": plain.complete("One, two, three,").text,
        "rag": rag.chat([ChatMessage(role="user", content=QUESTION)]).message.content,
        "vectors": embedding.get_text_embedding_batch(TEXTS),
        "question": embedding.get_query_embedding(TEXTS[0]),
    }


if __name__ == "__main__":
    known = {"openai_2": openai_2, "langchain": langchain, "llama_index": llama_index}
    found = known[sys.argv[1]](sys.argv[2])
    found["versions"] = {
        name: importlib.metadata.version(name)
        for name in ("openai", "langchain-openai", "llama-index-core")
    }
    print(json.dumps(found))
