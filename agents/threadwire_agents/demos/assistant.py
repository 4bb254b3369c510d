"""A ReAct agent as a LangGraph graph: a chat model that calls tools, one of which asks before it acts.

The model is a stand-in that needs no network. `THREADWIRE_MODEL=provider:model`, such as
`openai:gpt-5-mini`, puts a real one in its place. The graph's state:

    {"messages": [...], "postcards": [{"number", "to", "text"}]}
"""

from __future__ import annotations

import operator
import os
from typing import Annotated, Any, Final

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, InterruptOnConfig
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import ToolCall
from langgraph.graph.state import CompiledStateGraph

from .local_model import LocalModel
from .tools import TOOLS, Postcard

VARIABLE: Final = "THREADWIRE_MODEL"

_PROMPT: Final = """\
You are the assistant of a demo. Answer briefly, in markdown. Use the tools for facts about cities, \
distances, temperatures and all arithmetic; call those that don't depend on each other at once. The \
temperatures are typical ones of many years: never present them as today's weather or a forecast. \
A postcard is sent only after somebody has approved it; if that is refused, don't try again unasked."""


class AssistantState(AgentState[Any]):
    """The conversation, and the postcards that were sent in it."""

    postcards: Annotated[list[Postcard], operator.add]


def assistant(model: BaseChatModel | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph, without a checkpointer. `model`: the one that the environment names, by default.

    Raises:
        ValueError: THREADWIRE_MODEL names no model that can be used here.
    """
    approval = HumanInTheLoopMiddleware[Any, Any, Any](
        interrupt_on={
            "send_postcard": InterruptOnConfig(
                allowed_decisions=["approve", "edit", "reject", "respond"], description=_describe
            )
        }
    )
    graph: CompiledStateGraph[Any, Any, Any, Any] = create_agent(
        model or chosen_model(),
        tools=list(TOOLS),
        system_prompt=_PROMPT,
        middleware=[approval],
        state_schema=AssistantState,
        name="assistant",
    )
    return graph


def _describe(tool_call: ToolCall, state: object, runtime: object) -> str:
    """What somebody reads who is to approve it."""
    card = tool_call["args"]
    return f"Send this postcard to {card.get('to')}?\n\n{card.get('text')}"


def chosen_model() -> BaseChatModel:
    """The chat model that THREADWIRE_MODEL names; the stand-in where it is not set.

    Raises:
        ValueError: it is not of the form `provider:model`, the provider is unknown, or its package or
            key is missing; the message says it on one line.
    """
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        return LocalModel()
    provider, _, model = name.partition(":")
    if not provider or not model:
        raise ValueError(f"{VARIABLE}: {name!r} must be provider:model, such as openai:gpt-5-mini")
    try:
        chosen = init_chat_model(model, model_provider=provider)
    except Exception as error:  # whatever a provider's package raises, where a key is missing, for example
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{VARIABLE}: {name!r} can't be used: {said}") from error
    return chosen
