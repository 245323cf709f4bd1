"""What is asked, by whom, and whether it can be asked at all."""

from dataclasses import dataclass

from rag_chain.errors import InvalidQuestion, InvalidUser
from vector_index.filters import Filter
from vector_index.passages import Access

MAX_QUESTION_CHARACTERS = 4000
MAX_USER_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Question:
    """A text, what its asker may see, and what is to be found for it.

    k: passages for the prompt, None for the chain's own number. where: only passages that
    satisfy it. user: a key of the user view; None asks as nobody in particular. answer_tokens: at
    most so many, None for the chain's own number, which is never exceeded.
    """

    text: str
    access: Access
    k: int | None = None
    where: Filter | None = None
    user: str | None = None
    answer_tokens: int | None = None
    temperature: float = 0.0


def check_question(text: str) -> None:
    """Raises InvalidQuestion for text that is empty, too long, or holds NUL or a surrogate."""
    if not text.strip():
        raise InvalidQuestion("the question is empty; ask something")
    if len(text) > MAX_QUESTION_CHARACTERS:
        raise InvalidQuestion(
            f"the question has {len(text)} characters; at most {MAX_QUESTION_CHARACTERS}"
        )
    if (position := _first_not_text(text)) is not None:
        raise InvalidQuestion(_not_text("question", text, position))


def check_user(user: str) -> None:
    """Raises InvalidUser for a name that is empty, too long, or holds NUL or a surrogate."""
    if not user or len(user) > MAX_USER_CHARACTERS:
        raise InvalidUser(
            f"the user has {len(user)} characters; 1 to {MAX_USER_CHARACTERS} are allowed"
        )
    if (position := _first_not_text(user)) is not None:
        raise InvalidUser(_not_text("user", user, position))


def _first_not_text(text: str) -> int | None:
    """The position of the first NUL or lone surrogate."""
    found = (i for i, c in enumerate(text) if c == "\0" or 0xD800 <= ord(c) <= 0xDFFF)
    return next(found, None)


def _not_text(what: str, text: str, position: int) -> str:
    return f"character {position} of the {what} is U+{ord(text[position]):04X}, not text"
