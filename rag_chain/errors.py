"""Everything rag_chain raises of its own; stores' and engines' errors pass through.

RagChainError
├── InvalidQuestion     empty, too long, or text that no model can read
├── InvalidUser         a user's name that is no text, or named where there are no features
├── UnknownUser         the feature store knows nothing about this user
└── UnusableFeature     a feature that ranking or prompt needs is missing or of the wrong type
"""


class RagChainError(Exception):
    """Base of every error this room raises."""


class InvalidQuestion(RagChainError):
    """The question cannot be asked; the message names what is wrong with it."""


class InvalidUser(RagChainError):
    """The user cannot be looked up; the message names what is wrong with it."""


class UnknownUser(RagChainError):
    """The feature store has no row for the user."""

    def __init__(self, user: str, view: str) -> None:
        super().__init__(
            f"unknown user {user!r}: feature view {view} has no such key; leave `user` out, or "
            "add the row to its source and run `headrace features materialize`"
        )


class UnusableFeature(RagChainError):
    """The feature definitions and the settings do not fit together."""
