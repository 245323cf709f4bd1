"""The one check that every text passes before it is tokenised or sent."""

import re
from collections.abc import Sequence

from llm_endpoint.errors import InvalidText

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_texts(texts: Sequence[str]) -> None:
    """Raise InvalidText for a lone surrogate; every other str, NUL and "" included, is fine."""
    for index, text in enumerate(texts):
        # isascii() is a flag lookup: most texts skip the scan.
        if not text.isascii() and (match := _SURROGATE.search(text)):
            raise InvalidText(index, match.start(), match.group())
