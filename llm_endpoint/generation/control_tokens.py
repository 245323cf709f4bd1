"""Text that a chat template cannot mistake for its own markers."""

import re

# Engines tokenise the finished template with its markers switched on, so `<|im_end|>` inside a
# passage is one real control token (measured: llama.cpp, 1 token) and `<|im_start|>system` in a
# document opens a system turn. ChatML, Llama 3, Phi and Qwen; Gemma; Llama 2 and Mistral.
_MARKER = re.compile(
    r"<(?=\|[\w.-]{1,40}\|>)|<(?=/?s>)|<(?=(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])"
)


def defused(text: str) -> str:
    """`text` with a space inside every turn marker: readable as before, powerless."""
    return _MARKER.sub(lambda match: f"{match.group()} ", text)
