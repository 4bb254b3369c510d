"""A LangChain runnable that is no graph, as a graph of one node over a list of messages.

The runnable is called inside the node, so a chat model in it streams its tokens.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, get_type_hints
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableSequence
from langchain_core.runnables.config import merge_configs
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol

NODE: Final = "runnable"

_Input = Callable[[list[BaseMessage]], object]
_TEXTS: Final = ("output", "answer", "result", "text", "content")
"""Where chains that return a dict have their answer."""


def graph_of_runnable(runnable: Runnable[Any, Any]) -> Pregel[Any, Any, Any, Any]:
    """A graph of the one channel `messages`, whose only node is the runnable.

    The runnable gets the messages in the form its input schema asks for, and what it returns (a
    message, text, a list of messages, a dict with one of these, else as JSON) is added to them.

    Raises:
        TypeError: its input needs something that isn't in messages.
    """
    prepare = _input(runnable)

    async def call(state: MessagesState, config: RunnableConfig) -> dict[str, list[BaseMessage]]:
        last = _LastMessage()
        output = await runnable.ainvoke(
            prepare(list(state["messages"])), merge_configs(config, {"callbacks": [last]})
        )
        return {"messages": _messages(output, last.message)}

    builder = StateGraph(MessagesState)
    builder.add_node(NODE, call)
    builder.add_edge(START, NODE)
    builder.add_edge(NODE, END)
    return builder.compile(name=runnable.get_name())


# input


def _input(runnable: Runnable[Any, Any]) -> _Input:
    if isinstance(runnable, BaseLanguageModel):
        return _whole
    if isinstance(runnable, PregelProtocol):  # a graph of another server
        return lambda messages: {"messages": messages}
    try:
        schema = _resolved(runnable).get_input_jsonschema()
    except Exception:
        return _whole  # of a type that has no schema
    properties: dict[str, Any] = schema.get("properties", {})
    if schema.get("type") == "object" and not _is_message(schema):
        if not properties or set(properties) == {"root"}:
            return (lambda messages: {"messages": messages}) if not properties else _whole
        return _of_keys(runnable, properties, schema.get("required", []))
    kinds = {option.get("type") for option in schema.get("anyOf", [schema])}
    if "array" in kinds:
        return _whole
    if "string" in kinds:
        return _text
    if _is_message(schema):
        return lambda messages: messages[_newest(messages)]
    return _whole


def _resolved(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """What comes first in a chain, where it is a function whose postponed annotations hide its type."""
    first = runnable
    while isinstance(first, RunnableSequence):
        first = first.first
    if not isinstance(first, RunnableLambda) or not isinstance(first.InputType, str):
        return runnable
    function = getattr(first, "func", None) or first.afunc
    parameter = next(iter(inspect.signature(function).parameters))
    return first.with_types(input_type=get_type_hints(function)[parameter])


def _whole(messages: list[BaseMessage]) -> object:
    return list(messages)


def _newest(messages: Sequence[BaseMessage]) -> int:
    """Where a user's newest message is, or the newest of all."""
    indexes = range(len(messages) - 1, -1, -1)
    return next((i for i in indexes if messages[i].type == "human"), len(messages) - 1)


def _text(messages: Sequence[BaseMessage]) -> str:
    return str(messages[_newest(messages)].text) if messages else ""


def _of_keys(runnable: Runnable[Any, Any], properties: dict[str, Any], required: Sequence[str]) -> _Input:
    """For a dict: a key for messages and a key for text, which gets the newest message's.

    A history of another name than `messages` beside such a text is what came before it.
    """
    lists = [key for key, schema in properties.items() if key == "messages" or schema.get("type") == "array"]
    texts = [key for key in required if key not in lists]
    if len(texts) > 1 or len(lists) > 1 or not (texts or lists):
        wanted = ", ".join(repr(key) for key in required) or "nothing that is required"
        raise TypeError(
            f"{runnable.get_name()} can't be called with messages: its input is a dict of {wanted}; "
            "put a function before it that makes this of the messages"
        )

    def prepare(messages: list[BaseMessage]) -> object:
        whole = messages[: _newest(messages)] if texts and "messages" not in lists else messages
        return {key: list(whole) for key in lists} | {key: _text(messages) for key in texts}

    return prepare


def _is_message(schema: dict[str, Any]) -> bool:
    """Whether a schema is a message's own."""
    return {"content", "type"} <= set(schema.get("properties", {}))


# output


def _messages(output: object, last: BaseMessage | None) -> list[BaseMessage]:
    """What a runnable returned, as messages; `last` is what a chat model in it said last."""
    if isinstance(output, BaseMessage):
        return [output]
    if isinstance(output, PromptValue):
        return list(output.to_messages())
    if isinstance(output, dict):
        if "messages" in output:
            return _messages(output["messages"], last)
        for key in _TEXTS:
            if isinstance(output.get(key), str | BaseMessage):
                return _messages(output[key], last)
    if isinstance(output, list | tuple) and output:
        try:
            return list[BaseMessage](convert_to_messages(output))
        except (NotImplementedError, TypeError, ValueError):
            pass  # a list of something else
    if output is None or output in ([], ()):
        return []
    text = output if isinstance(output, str) else _json(output)
    if last is not None and str(last.text) == text:
        # A chain that ends in a parser of text: the model's own message is the one that was streamed.
        return [last]
    return [AIMessage(content=text)]


def _json(output: object) -> str:
    dump = getattr(output, "model_dump", None)
    return json.dumps(dump(mode="json") if callable(dump) else output, ensure_ascii=False, default=str)


class _LastMessage(AsyncCallbackHandler):
    """Keeps what a chat model said last."""

    message: BaseMessage | None = None

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        generation = (
            response.generations[-1][-1] if response.generations and response.generations[-1] else None
        )
        if isinstance(generation, ChatGeneration):
            self.message = generation.message
