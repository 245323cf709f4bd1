"""The language of a text, told by py3langid: a few megabytes, no network, the same every time."""

import importlib.util
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pipelines.errors import BadCheck, MissingExtra

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# More of a text says no more about its language, and takes longer.
_READ_CHARACTERS = 2_000
# Of English sentences of 20 characters and more, 1 in 1,600 is surely taken for another language;
# at a certainty of 0.3 there were dozens.
_SURE = 0.5


def check_languages(languages: Sequence[object], at: str) -> None:
    """Raises BadCheck for what is no language known here, MissingExtra."""
    known = _identifier().labels
    if not languages:
        raise BadCheck(f"{at} is empty; name at least one, such as en")
    for language in languages:
        if language not in known:
            raise BadCheck(
                f"{at}: there is no language {language!r}; known are, as ISO 639 has them: "
                f"{', '.join(sorted(known))}"
            )


def is_other(text: str, languages: Collection[str]) -> bool:
    """Whether a text is surely of none of these languages; what is too short to tell is not."""
    found, certainty = _identifier().classify(text[:_READ_CHARACTERS])
    return found not in languages and certainty > _SURE


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    if importlib.util.find_spec("py3langid") is None:
        raise MissingExtra(
            "languages are told by py3langid, which is not installed: "
            "pip install 'headrace[languages]'"
        )
    # Late: the model takes a second to load, and most indexes declare no language.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
