"""Everything rag_chain raises of its own; stores' and engines' errors pass through.

RagChainError
└── InvalidQuestion     empty, too long, or text that no model can read
"""


class RagChainError(Exception):
    """Base of every error this room raises."""


class InvalidQuestion(RagChainError):
    """The question cannot be asked; the message names what is wrong with it."""
