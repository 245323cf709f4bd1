"""`python conversion_child.py <file.gguf> <folder>`: run by an environment with transformers.

It imports nothing of ours: that environment does not have us.
"""

import sys
from pathlib import Path


def main(source: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    # A fresh model has no note that it was quantised, which vLLM would take at its word.
    config = type(read.config).from_dict(
        {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    )
    made = type(read)(config)
    made.load_state_dict(read.state_dict())
    made.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
