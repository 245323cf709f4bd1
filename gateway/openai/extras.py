"""Fields that are not OpenAI's: which engine takes which, so that none is ignored in silence."""

from collections.abc import Iterable, Mapping

from gateway.openai.errors import Unsupported

# From tools/server/README.md of llama.cpp, less what is the server's to say (slots, adapters,
# n_predict beside max_tokens).
_LLAMA_CPP = frozenset({
    "cache_prompt", "chat_template_kwargs", "dry_allowed_length", "dry_base", "dry_multiplier",
    "dry_penalty_last_n", "dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range",
    "grammar", "ignore_eos", "json_schema", "min_keep", "min_p", "mirostat", "mirostat_eta",
    "mirostat_tau", "n_probs", "post_sampling_probs", "reasoning_format", "repeat_last_n",
    "repeat_penalty", "return_tokens", "samplers", "timings_per_token", "top_k", "top_n_sigma",
    "typical_p", "xtc_probability", "xtc_threshold",
})  # fmt: skip
# From vLLM's "Extra parameters" of its OpenAI-compatible server, less chat_template (a program),
# request_id and priority, which are the server's.
_VLLM = frozenset({
    "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "bad_words",
    "chat_template_kwargs", "continue_final_message", "documents", "ignore_eos",
    "include_reasoning", "include_stop_str_in_output", "length_penalty", "min_p", "min_tokens",
    "prompt_logprobs", "reasoning_effort", "repetition_penalty", "return_tokens_as_token_ids",
    "skip_special_tokens", "spaces_between_special_tokens", "stop_token_ids", "structured_outputs",
    "top_k", "truncate_prompt_tokens",
})  # fmt: skip
# An engine that is not here (a remote one) is sent whatever came and says itself what it refuses.
_TAKEN: Mapping[str, frozenset[str]] = {
    "llama.cpp": _LLAMA_CPP,
    "vllm": _VLLM,
    "scripted": frozenset(),
    "chain": frozenset({"headrace"}),
}


def check_extras(given: Iterable[str], engine: str, model: str) -> None:
    """Raises Unsupported for the first field that this engine would ignore."""
    taken = _TAKEN.get(engine)
    if taken is None:
        return
    for field in given:
        if field not in taken:
            raise Unsupported(field, f"is not a field that {model} ({engine}) knows; leave it out")
