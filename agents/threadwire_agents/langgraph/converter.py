"""A graph's stream of events as edits of the document.

The graph's output channels stand at the root, each superstep's end as the graph has them; all else
that there is to see of a run stands under `threadwire`. Nothing is known here of runs, commands or
checkpoints, and nothing is waited for: `turn`, above, feeds what `astream` gives.

The modes, and what an event of each is for:

    messages   a token: text at the end of a preview (`messages`)
    values     the channels: what they hold is the truth
    updates    which channels and messages a node returned, which may have been edited in place
    tasks      what runs; and, when tasks start, that the superstep before has ended
    custom     what nodes write to the stream
    tools      what tools do

Spec: PROTOCOL.md §15.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from langchain_core.messages import BaseMessage

from threadwire.core.draft import RESERVED
from threadwire.core.operations import Json, Path

from .messages import MISSING, Access, MessageList, make_equal, make_objects, value_at
from .serialise import to_json

MODES: Final = ["messages", "values", "updates", "custom", "tasks", "tools"]
"""The stream modes that are read."""

AREAS: Final = ("tasks", "tools", "subgraphs", "custom", "streaming", "error")
"""What a run shows under `threadwire`; a new run begins without."""

Namespace: TypeAlias = tuple[str, ...]

_MAX_CUSTOM: Final = 1000
"""Custom values that are kept of a run; a few more before the oldest go."""
_MAX_SUBGRAPHS: Final = 200
"""Calls of subgraphs that are kept of a run once they have ended."""
_INTERRUPT: Final = "__interrupt__"
_METADATA: Final = "__metadata__"
_OUTPUT: Final = "output"


class _Scope:
    """The root graph, or one call of a subgraph."""

    __slots__ = (
        "at",
        "changed",
        "ended",
        "held",
        "interrupted",
        "list",
        "name",
        "own_list",
        "path",
        "running",
        "streamed",
        "tasks",
        "told",
        "written",
    )

    def __init__(self, at: Path, path: Path, own_list: MessageList, *, name: str) -> None:
        self.at = at
        """Where all of it stands."""
        self.path = path
        """Where its channels stand."""
        self.name = name
        self.own_list = own_list
        self.list = own_list
        """Where its messages stream: its own list, or an outer graph's that shares its messages."""
        self.changed: set[str | None] = set()
        self.told: dict[Any, Any] = {}
        """What its channels held last: the same objects for as long as no node writes them."""
        self.written: set[Any] = set()
        """The channels that nodes have written since: what these hold may have been edited in place."""
        self.tasks: dict[str, str] = {}
        """Names of the superstep's tasks, by id."""
        self.running: set[str] = set()
        """Those that haven't ended. Tasks may start others in their own superstep."""
        self.ended = False
        """Whether a task has ended since tasks last began."""
        self.interrupted = False
        """Whether one was interrupted since: then what streamed stays, for the superstep hasn't ended."""
        self.held: set[str | None] = set()
        """The ids of the messages that it holds, where these are shown in an outer graph's list."""
        self.streamed: set[str | None] = set()
        """The ids of those that it has streamed there since its last superstep."""


class Converter:
    """One for each run.

    Args:
        access: the document.
        messages: the channel that holds the conversation; None where the graph has none.
        shares: whether the subgraph at a namespace has its messages in common with the root graph, so
            that they are streamed there.
    """

    def __init__(
        self, access: Access, *, messages: str | None, shares: Callable[[Namespace], bool] | None = None
    ) -> None:
        self._access = access
        self._channel = messages or "messages"
        self._shares = shares or (lambda _: False)
        self._calls: dict[str, str] = {}
        """Tool call ids by the id of the task that carries one out."""
        place: Path = (messages,) if messages else (RESERVED, "streaming")
        self.root = MessageList(access, place)
        self._root = _Scope((RESERVED,), (), self.root, name="")
        self._conversation = messages is not None
        self._scopes: dict[Namespace, _Scope] = {(): self._root}
        self._past: dict[str, None] = {}
        """Calls of subgraphs that have ended, in that order."""
        self.resuming = False
        """The next values of the root are older than what is shown, and are read for their objects only."""

    # a run's beginning and end

    def begin(self) -> None:
        """Takes out what the run before has shown."""
        document = self._access.document
        area = value_at(document, (RESERVED,))
        if type(area) is dict:
            for name in AREAS:
                if name in area:
                    document.delete((RESERVED, name))

    def settle(self, values: Any, *, cut: bool = False) -> None:
        """The graph's state, as it is kept: the document shows just that, whatever came before.

        `cut`: what is shown beyond it was streamed by tasks that run again, and stays until they have
        streamed it anew.
        """
        self.resuming = False
        self.root.forget()
        self._root.told = {}
        self._values(self._root, values, final=not cut)
        if cut:
            self.root.stale = self.root.preview_ids()

    def finish(self) -> None:
        """The graph's stream is over: nothing runs any more."""
        self.remove("tasks")
        self.remove("tools")
        for scope in self._scopes.values():
            scope.ended = scope.interrupted = False
            scope.tasks.clear()
            scope.running.clear()
            scope.own_list.end_streams()
            if scope is not self._root or not self._conversation:
                self._drop_streaming(scope)

    def fail(self, error: Json) -> None:
        """Shows what the run has failed with."""
        self._set((RESERVED, "error"), error)

    def put(self, path: Path, value: Json) -> None:
        """Puts something else in the server's part of the state."""
        self._set((RESERVED, *path), value)

    def remove(self, area: str) -> None:
        """Takes a member out of the server's part of the state, if it is there."""
        self._delete((RESERVED, area))

    # events

    def feed(self, namespace: Namespace, mode: str, payload: Any) -> None:
        """One event, as `astream(stream_mode=MODES, subgraphs=True, version="v1")` gives it."""
        scope = self._scopes.get(namespace)
        if scope is None:
            scope = self._enter(namespace)
        if mode == "messages":
            message, meta = payload
            if scope.list is not scope.own_list:
                scope.streamed.add(message.id)
            scope.list.chunk(message, meta)
        elif mode == "values":
            self._told_values(scope, payload)
        elif mode == "updates":
            self._updates(scope, payload)
        elif mode == "tasks":
            self._task(scope, namespace, payload)
        elif mode == "custom":
            self._custom(scope, payload)
        elif mode == "tools":
            self._tool(payload)

    def _enter(self, namespace: Namespace) -> _Scope:
        """A subgraph is called."""
        key = "|".join(namespace)
        self._past.pop(key, None)  # one that keeps its state has the same name in each call
        name, _, task = namespace[-1].partition(":")
        at: Path = (RESERVED, "subgraphs", key)
        entry: dict[str, Json] = {"name": name}
        call = self._calls.get(task)
        if call is not None:
            entry["tool_call_id"] = call
        if len(namespace) > 1:
            entry["parent"] = "|".join(namespace[:-1])
        self._set(at, entry)
        scope = _Scope(
            at, (*at, "values"), MessageList(self._access, (*at, "values", self._channel)), name=name
        )
        if self._conversation and self._shares(namespace):
            scope.list = self.root
        self._scopes[namespace] = scope
        return scope

    # values

    def _told_values(self, scope: _Scope, payload: Any) -> None:
        if type(payload) is dict and _INTERRUPT in payload:
            # These are from before the superstep. Other tasks go on, and may have ended in an earlier call.
            scope.interrupted = True
            return
        if scope is self._root and self.resuming:
            self.resuming = False
            if self._conversation and isinstance(payload, dict):
                messages = payload.get(self._channel)
                if isinstance(messages, list):
                    scope.own_list.adopt(messages)
            return
        scope.running.clear()
        self._values(scope, payload, final=not scope.interrupted)

    def _values(self, scope: _Scope, payload: Any, *, final: bool) -> None:
        values = payload if isinstance(payload, Mapping) else {_OUTPUT: payload}
        document = self._access.document
        at_root = scope is self._root
        if not at_root:
            make_objects(document, scope.path)
        shown = value_at(document, scope.path)
        shared = scope.list is not scope.own_list
        changed, scope.changed = scope.changed, set()
        written, scope.written = scope.written, set()
        told, scope.told = scope.told, {}
        names: dict[str, None] = {}
        for name, value in values.items():
            if name == _INTERRUPT or (at_root and name == RESERVED):
                continue
            if name == self._channel and self._is_conversation(scope, value):
                if shared:
                    scope.held = {getattr(message, "id", None) for message in value}
                    self.root.stale -= scope.held  # it has them already, and won't stream them anew
                    if final:
                        self._purge(scope)
                    continue
                names[name] = None
                if not value and name not in shown:
                    document.set((*scope.path, name), [])
                scope.own_list.tell(value, changed=changed, final=final)
                continue
            (key,) = to_json({name: None})
            names[key] = None
            if name == self._channel:
                scope.own_list.forget()
            else:
                scope.told[name] = value
                if key in shown and name not in written and told.get(name, MISSING) is value:
                    continue  # a channel may hold megabytes, superstep after superstep
            make_equal(document, (*scope.path, key), to_json(value))
        for name in list(shown):
            streams = name == self._channel and not final  # though the subgraph has no such channel
            if name not in names and not streams and not (at_root and name == RESERVED):
                document.delete((*scope.path, name))
        if final and not self._has_list(scope):
            self._drop_streaming(scope)

    def _is_conversation(self, scope: _Scope, value: Any) -> bool:
        """Whether a channel of the conversation's name is one here."""
        return isinstance(value, list) and self._has_list(scope)

    def _has_list(self, scope: _Scope) -> bool:
        return scope is not self._root or self._conversation

    def _purge(self, scope: _Scope) -> None:
        """A superstep has ended: what it streamed and the graph did not keep goes."""
        if scope.list is scope.own_list:
            scope.list.purge(())
        elif dropped := scope.streamed - scope.held:
            # Tasks beside it, and beside graphs around it, have streamed into that list as well.
            scope.list.purge(scope.list.preview_ids() - dropped)
        scope.streamed.clear()

    def _drop_streaming(self, scope: _Scope) -> None:
        """Takes out what streamed where the graph has no list for it."""
        if scope is self._root and not self._conversation:
            scope.own_list.forget()
            self.remove("streaming")

    # the other modes

    def _updates(self, scope: _Scope, payload: Any) -> None:
        if not isinstance(payload, Mapping):
            return
        for update in payload.values():
            scope.written.add(_OUTPUT)
            parts = update if isinstance(update, list | tuple) else [update]
            for part in parts:
                if isinstance(part, Mapping):
                    scope.written.update(part)
                    messages = part.get(self._channel)
                    for message in messages if isinstance(messages, list | tuple) else [messages]:
                        if isinstance(message, BaseMessage):
                            scope.changed.add(message.id)
        if _METADATA in payload:
            # Tasks that had ended before, in a call that was cut: nothing else tells that they have.
            for id, name in scope.tasks.items():
                if name in payload:
                    self._ended(scope, id, "done")

    def _task(self, scope: _Scope, namespace: Namespace, payload: Mapping[str, Any]) -> None:
        id = payload["id"]
        path: Path = (RESERVED, "tasks", id)
        if "input" in payload or "triggers" in payload:
            if scope.ended and not scope.running:
                self._superstep_ended(scope, namespace)
            scope.tasks[id] = payload["name"]
            scope.running.add(id)
            call = _tool_call(payload.get("input"))
            entry: dict[str, Json] = {"name": str(payload["name"]), "status": "running"}
            if call is not None:
                self._calls[id] = call
                entry["tool_call_id"] = call
            if namespace:
                entry["ns"] = "|".join(namespace)
            self._set(path, entry)
            return
        if payload.get("error"):
            self._ended(scope, id, "failed")
        elif payload.get("interrupts"):
            self._ended(scope, id, "interrupted")
        else:
            self._ended(scope, id, "done")

    def _ended(self, scope: _Scope, id: str, status: str) -> None:
        scope.ended = True
        scope.running.discard(id)
        if id in scope.tasks:
            self._set_status((RESERVED, "tasks", id), status)

    def _superstep_ended(self, scope: _Scope, namespace: Namespace) -> None:
        scope.ended = False
        for inner in [each for each in self._scopes if each[: len(namespace)] == namespace != each]:
            del self._scopes[inner]
            self._past["|".join(inner)] = None
        while len(self._past) > _MAX_SUBGRAPHS:
            self._delete((RESERVED, "subgraphs", oldest := next(iter(self._past))))
            del self._past[oldest]
        for id in scope.tasks:
            self._calls.pop(id, None)
            self._delete((RESERVED, "tasks", id))
        scope.tasks.clear()
        if self._has_list(scope) and not scope.list.stale:
            self._purge(scope)

    def _custom(self, scope: _Scope, payload: Any) -> None:
        path = (*scope.at, "custom")
        kept = value_at(self._access.document, path)
        value = to_json(payload)
        if type(kept) is not list:
            self._set(path, [value])
            return
        document = self._access.document
        document.set((*path, len(kept)), value)
        if len(kept) > _MAX_CUSTOM + _MAX_CUSTOM // 4:
            document.splice(path, 0, len(kept) - _MAX_CUSTOM, [])

    def _tool(self, payload: Mapping[str, Any]) -> None:
        call = payload.get("tool_call_id")
        if not call:
            return
        path: Path = (RESERVED, "tools", str(call))
        match payload.get("event"):
            case "tool-started":
                self._set(path, {"name": str(payload.get("tool_name")), "status": "running"})
            case "tool-output-delta":
                self._tool_output(path, payload.get("delta"))
            case "tool-finished":
                self._set_status(path, "done")
            case "tool-error":
                self._set_status(path, "failed")

    def _tool_output(self, path: Path, delta: Any) -> None:
        document = self._access.document
        entry = value_at(document, path)
        if type(entry) is not dict:
            return
        output = entry.get("output")
        if type(delta) is str and type(output) is str:
            document.append_text((*path, "output"), delta)
        elif output is None:
            document.set((*path, "output"), delta if type(delta) is str else [to_json(delta)])
        elif type(output) is list:
            document.set((*path, "output", len(output)), to_json(delta))
        else:
            document.set((*path, "output"), [output, to_json(delta)])

    def _set_status(self, path: Path, status: str) -> None:
        if type(value_at(self._access.document, path)) is dict:
            self._access.document.set((*path, "status"), status)

    # the server's part of the document

    def _set(self, path: Path, value: Json) -> None:
        make_objects(self._access.document, path[:-1])
        self._access.document.set(path, value)

    def _delete(self, path: Path) -> None:
        parent = value_at(self._access.document, path[:-1])
        if type(parent) is dict and path[-1] in parent:
            self._access.document.delete(path)


def _tool_call(given: Any) -> str | None:
    """The id of the one tool call that a task is to carry out."""
    if isinstance(given, Mapping):
        given = given.get("tool_call", given)
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, Mapping) and "args" in given and isinstance(given.get("id"), str):
        return str(given["id"])
    return None
