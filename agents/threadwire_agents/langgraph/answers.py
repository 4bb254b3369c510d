"""What a graph asks of clients, and what their answers are to it.

A graph that has stopped waits for answers to interrupts, for results of tools that clients execute
(it asks for these by interrupts of a certain form, or ends with its tool calls open), or, at a
breakpoint, for a word to go on.

Spec: PROTOCOL.md §8.4, §8.7 and §15.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import jsonschema
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.types import Interrupt, StateSnapshot

from threadwire.core.commands import AddToolResult, Command, Resume
from threadwire.core.errors import CommandError
from threadwire.core.operations import Json
from threadwire.engine.hosting import ClientCall, Questions
from threadwire.engine.run import Given

from .content import tool_message
from .serialise import to_json

CLIENT_TOOL: Final = "client_tool"
"""The `type` of an interrupt that asks for a client tool's result: `{type, tool_call_id, name, args}`."""

_NO_RESULT: Final = {
    "cancelled": "The call was cancelled before it had a result.",
    "failed": "The run failed before the call had a result.",
}


def open_calls(messages: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
    """The tool calls without a result, by id; of the last turn only."""
    calls, answered = _last_calls(messages)
    return {id: call for id, call in calls.items() if id not in answered}


def closing_messages(messages: Sequence[Any], new_id: Callable[[], str], why: str) -> list[ToolMessage]:
    """Results for the tool calls that have none: models refuse a conversation without.

    `why`: `cancelled` or `failed`.
    """
    return [
        ToolMessage(_NO_RESULT[why], tool_call_id=id, name=call["name"], status="error", id=new_id())
        for id, call in open_calls(messages).items()
    ]


def _last_calls(messages: Sequence[Any]) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
    """The tool calls of the last turn, by id; and the ids of those that have their results."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage) and message.tool_calls:
            return {str(call["id"]): call for call in message.tool_calls if call.get("id")}, answered
        elif not isinstance(message, AIMessage):
            break
    return {}, answered


def find_questions(
    state: StateSnapshot, messages: Sequence[Any], tools: Collection[str], *, places: Mapping[str, str]
) -> Questions:
    """What the graph waits for; nothing where it has come to its end.

    `tools`: the names of tools that clients execute. `places`: by interrupt of a subgraph, the `ns` of
    its call.
    """
    interrupts: dict[str, Json] = {}
    calls: dict[str, ClientCall] = {}
    schemas: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    for interrupt in state.interrupts:
        call = _client_call(interrupt)
        if call is not None:
            calls[call] = ClientCall(
                name=str(interrupt.value["name"]), args=to_json(interrupt.value.get("args"))
            )
            continue
        entry: dict[str, Json] = {"value": to_json(interrupt.value)}
        if interrupt.id in places:
            entry["ns"] = places[interrupt.id]
        schema = response_schema(interrupt)
        if schema is not None:
            entry["response_schema"] = schemas[interrupt.id] = schema
        interrupts[interrupt.id] = entry
        asked[interrupt.id] = interrupt.value
    if not state.interrupts:
        of_turn, answered = _last_calls(messages)
        if any(each["name"] in tools for each in of_turn.values()):
            # The graph goes on when all calls of a turn have their results, whoever gives them.
            for id, each in of_turn.items():
                if id not in answered:
                    calls[id] = ClientCall(name=str(each["name"]), args=to_json(each["args"]))
    pauses = bool(state.next) and not (interrupts or calls)

    def check(command: Command) -> None:
        if isinstance(command, Resume):
            for id, answer in command.answers.items():
                _check_answer(answer, schemas.get(id), asked.get(id), f"command.answers.{id}")
        elif isinstance(command, AddToolResult):
            tool_message(command, None, "")

    return Questions(interrupts=interrupts, calls=calls, breakpoint=pauses, check=check)


def answer_map(
    answers: Sequence[Given], state: StateSnapshot
) -> tuple[dict[str, Any], list[Given], list[Given]]:
    """(answers by interrupt id, the commands they are from or that go on, results for the conversation)."""
    by_call = {_client_call(interrupt): interrupt.id for interrupt in state.interrupts}
    resume: dict[str, Any] = {}
    taken: list[Given] = []
    results: list[Given] = []
    for given in answers:
        command = given.command
        if isinstance(command, Resume):
            resume.update(command.answers)
            taken.append(given)
        elif isinstance(command, AddToolResult):
            interrupt = by_call.get(command.tool_call_id)
            if interrupt is None:
                results.append(given)
            else:
                resume[interrupt] = {"error": command.result} if command.is_error else command.result
                taken.append(given)
    return resume, taken, results


def response_schema(interrupt: Interrupt) -> Json:
    """The JSON Schema of an answer, where the graph gave one."""
    schema = getattr(interrupt, "response_schema", None)
    if schema is None:
        return None
    if hasattr(schema, "model_json_schema"):
        schema = schema.model_json_schema()
    return to_json(schema) if isinstance(schema, Mapping) else None


def _client_call(interrupt: Interrupt) -> str | None:
    """The tool call that a client tool's interrupt is about."""
    value = interrupt.value
    if isinstance(value, Mapping) and value.get("type") == CLIENT_TOOL and value.get("name"):
        call = value.get("tool_call_id")
        return call if isinstance(call, str) else None
    return None


def _check_answer(answer: Json, schema: Any, asked: Any, field: str) -> None:
    if schema is not None:
        try:
            jsonschema.validate(answer, schema)
        except jsonschema.ValidationError as error:
            where = ".".join([field, *map(str, error.absolute_path)])
            raise CommandError("invalid-command", error.message[:300], where) from None
        except jsonschema.SchemaError:
            return  # it is not the client's fault
    if isinstance(asked, Mapping) and isinstance(asked.get("action_requests"), Sequence):
        _check_decisions(answer, asked, field)


def _check_decisions(answer: Json, asked: Mapping[str, Any], field: str) -> None:
    """The answer to a request for approval: one decision for each action, of a kind that is allowed."""
    actions = asked["action_requests"]
    decisions = answer.get("decisions") if isinstance(answer, dict) else None
    if not isinstance(decisions, list):
        raise CommandError("invalid-command", "expected an object with a list of decisions", field)
    if len(decisions) != len(actions):
        text = f"expected {len(actions)} decisions, in the order of the actions, not {len(decisions)}"
        raise CommandError("invalid-command", text, f"{field}.decisions")
    allowed = {
        config.get("action_name"): config.get("allowed_decisions")
        for config in asked.get("review_configs") or ()
        if isinstance(config, Mapping)
    }
    for place, (action, decision) in enumerate(zip(actions, decisions, strict=True)):
        kind = decision.get("type") if isinstance(decision, dict) else None
        kinds = allowed.get(action.get("name")) if isinstance(action, Mapping) else None
        if not isinstance(kind, str) or kind not in (kinds or _DECISIONS):
            text = f"expected one of {', '.join(map(str, kinds or _DECISIONS))}"
            raise CommandError("invalid-command", text, f"{field}.decisions.{place}.type")
        _check_fields(decision, _DECISIONS.get(kind, {}), f"{field}.decisions.{place}")


def _check_fields(given: Mapping[str, Any], fields: Mapping[str, Any], field: str) -> None:
    """Whether it has these fields, by their types or their own fields. A type in a tuple may be left out."""
    for name, kind in fields.items():
        optional = isinstance(kind, tuple)
        value = given.get(name)
        if optional and value is None:
            continue
        wanted = kind[0] if optional else dict if isinstance(kind, dict) else kind
        if not isinstance(value, wanted):
            text = "expected a string" if wanted is str else "expected an object"
            raise CommandError("invalid-command", text, f"{field}.{name}")
        if isinstance(kind, dict):
            _check_fields(value, kind, f"{field}.{name}")


_DECISIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "approve": {},
    "edit": {"edited_action": {"name": str, "args": dict}},
    "reject": {"message": (str,)},
    "respond": {"message": str},
}
"""The kinds of decisions, with the fields that each has."""
