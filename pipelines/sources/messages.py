"""What other libraries' errors say, in one line."""

import re

# deltalake colours its errors, and puts each cause on a line of its own behind an arrow.
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_CAUSE = re.compile(r":?\s*\n\s*↳\s*")
_CHARACTERS = 300


def in_one_line(exc: BaseException) -> str:
    """The whole message, causes and all, as a full disk or a missing right comes last in it."""
    text = _CAUSE.sub(": ", _COLOURS.sub("", str(exc)))
    return " ".join(text.split())[:_CHARACTERS] or type(exc).__name__
