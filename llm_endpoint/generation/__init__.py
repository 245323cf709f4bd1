"""Messages in, text out."""

from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    Generator,
    GeneratorInfo,
    LocalEngine,
    Message,
    OpenAIEngine,
    Route,
    SleepingEngine,
    TextEngine,
    TokenUsage,
)
from llm_endpoint.generation.scripted import Fault, ScriptedGenerator

__all__ = [
    "Completion",
    "CompletionDelta",
    "Fault",
    "GenerationRequest",
    "Generator",
    "GeneratorInfo",
    "LocalEngine",
    "Message",
    "OpenAIEngine",
    "Route",
    "ScriptedGenerator",
    "SleepingEngine",
    "TextEngine",
    "TokenUsage",
]
