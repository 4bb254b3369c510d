"""A list of messages in the document: what a model streams into it, and the graph's own list.

The first items are the graph's own messages, the rest are previews: messages that stream, or that a
node has just made, of which the graph's list doesn't know yet. Only their text grows. When the graph
tells its list, a preview becomes the message it was a preview of, or goes.

A model's chunks belong together by the identity of their metadata: the id of a message may change in
the middle of it, when a provider's own arrives. All per token costs the same for any length of the
list. `converter`, above, knows which list an event is for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import compress, count
from operator import is_not
from typing import Any, Final, Protocol

import msgspec
from langchain_core.messages import BaseMessage, BaseMessageChunk

from threadwire.core.diff import diff
from threadwire.core.document import Document
from threadwire.core.errors import InvalidValue
from threadwire.core.operations import AppendText, Delete, Json, Operation, Path, Set, Splice

from .message_json import merge_message
from .serialise import message_to_json, to_json

MISSING: Final = object()
"""Stands for nothing, not even null."""

_LANGCHAIN: Final = "lc_"
"""What the ids begin with that LangChain makes."""
_LANGCHAIN_RUN: Final = "lc_run-"
"""And those of a model's whole call."""
_LATER: Final = (
    "tool_calls",
    "invalid_tool_calls",
    "response_metadata",
    "usage_metadata",
    "additional_kwargs",
)
"""What is said of a chunk alone is not yet true of the message, or grows in its own way."""
_CALLS_ELSEWHERE: Final = ("tool_calls", "function_call")
"""Keys of `additional_kwargs` whose content is in the message's tool calls."""
_SAID_AGAIN: Final = ("id", "output_version", "model_provider")
"""Texts that each chunk may repeat instead of adding to them."""


class Access(Protocol):
    """Where the document is; raises RunEnded once it may not be edited any longer."""

    @property
    def document(self) -> Document: ...


def value_at(document: Document, path: Path) -> Any:
    """What stands at a path, `MISSING` where nothing does."""
    node: Any = document.root
    for key in path:
        if type(node) is dict:
            node = node.get(key, MISSING)
        elif type(node) is list and type(key) is int and key < len(node):
            node = node[key]
        else:
            return MISSING
    return node


def make_equal(document: Document, path: Path, new: Json) -> None:
    """Edits what stands at `path`, whose parents exist, until it equals `new`."""
    old = value_at(document, path)
    if old is MISSING:
        document.set(path, new)
        return
    for operation in diff(old, new):
        document.edit(_at(path, operation))


def make_objects(document: Document, path: Path) -> None:
    """Makes the objects down to `path` where they are missing."""
    for length in range(1, len(path) + 1):
        if type(value_at(document, path[:length])) is not dict:
            nested: Json = {}
            for key in reversed(path[length:]):
                nested = {key: nested}
            document.set(path[:length], nested)
            return


def _place_of(items: list[Json], new: Any) -> int | None:
    """Where the block stands that a piece belongs to: one of its index and, if both have one, its id."""
    index = new.get("index") if type(new) is dict else None
    if type(index) is not int and not (type(index) is str and index.startswith(_LANGCHAIN)):
        return None
    id_ = new.get("id")
    for place in range(len(items) - 1, -1, -1):
        item = items[place]
        if (
            type(item) is dict
            and item.get("index") == index
            and (not id_ or item.get("id") in (None, "", id_))
        ):
            return place
    return None


def _id(item: object) -> str | None:
    """The id of a message as it is shown, or of the graph's own; None for what has none."""
    found = item.get("id") if type(item) is dict else getattr(item, "id", None)
    return found if type(found) is str else None


def _at(path: Path, operation: Operation) -> Operation:
    match operation:
        case Set(inner, value):
            return Set((*path, *inner), value)
        case AppendText(inner, value):
            return AppendText((*path, *inner), value)
        case Delete(inner):
            return Delete((*path, *inner))
        case Splice(inner, index, count, items):
            return Splice((*path, *inner), index, count, items)


def _rank(id: str | None) -> int:
    """Which of two ids LangChain keeps: a provider's before one of its own."""
    if not id:
        return 0
    if id.startswith(_LANGCHAIN_RUN):
        return 2
    return 1 if id.startswith(_LANGCHAIN) else 3


def _further(path: Path, by: int, operation: Operation, length: int) -> Operation:
    """An operation on the last `length` items of the list at `path`, from `by` on, as one on the list."""
    match operation:
        case Splice((), index, count, items):
            return Splice(path, index + by, count, items)
        case Set((), value):
            return Splice(path, by, length, value)
    place, *inner = operation.path
    assert type(place) is int
    return _at((*path, place + by), msgspec.structs.replace(operation, path=tuple(inner)))


class Stream:
    """A message that streams: where it stands, and where in it the next chunk goes."""

    __slots__ = ("calls", "ended", "id", "kind", "meta", "overtaken", "path", "text")

    def __init__(self, id: str | None, path: Path, meta: object, kind: type) -> None:
        self.id = id
        self.kind = kind
        """The class of its chunks."""
        self.meta = meta
        """Held, so that its identity stays its own."""
        self.path = path
        self.text: Path | None = (*path, "content")
        """Where the content grows while it is one text; None when it is blocks."""
        self.calls: dict[object, int] = {}
        """Places of tool calls by their index."""
        self.ended = False
        self.overtaken: Json = None
        """How it stood when another message of the same task began to stream."""

    @property
    def task(self) -> object:
        """What names the task that it is of; the same for each attempt of it."""
        return self.meta.get("langgraph_checkpoint_ns") if isinstance(self.meta, Mapping) else None

    def move(self, path: Path) -> None:
        self.path = path
        if self.text is not None:
            self.text = (*path, "content")


class MessageList:
    """The messages at `path`, which is made when the first one comes.

    Attributes:
        known: the graph's own message objects, as they stand in the list from its start.
    """

    def __init__(self, access: Access, path: Path) -> None:
        self.path = path
        self.known: list[object] = []
        self.stale: set[str | None] = set()
        """The ids of previews that will be streamed anew: the first that comes takes their place."""
        self._access = access
        self._before: int | None = len(self._items() or ())
        """How many items stood there before the graph told of any; None once it has."""
        self._known_ids: set[str | None] | None = None
        """Of `known`, once somebody has asked."""
        self._all_messages = True
        """Whether there is nothing but messages in `known`, of which the graph tells when they change."""
        self._streams: dict[int, Stream] = {}
        self._ignored: dict[int, object] = {}
        """Metadata of messages whose chunks are of no use, by their identity."""

    # streaming

    def chunk(self, message: BaseMessage, meta: object) -> None:
        """A piece of a message, or a whole one."""
        stream = self._streams.get(id(meta))
        if stream is None or (type(message) is not stream.kind and not isinstance(message, BaseMessageChunk)):
            self._begin(message, meta)
            return
        # What a chunk brings is put together as LangChain does it, so that the end changes little.
        fields = message.__dict__
        content = fields["content"]
        if content:
            if type(content) is str and stream.text is not None:
                try:
                    self._access.document.append_text(stream.text, content)
                except InvalidValue:
                    self._append(stream.text, content)
            else:
                self._grow_content(stream, content)
        elif type(content) is list and stream.text is not None:
            self._grow_content(stream, content)
        chunks = fields.get("tool_call_chunks")
        if chunks:
            self._grow_calls(stream, chunks)
        if fields["additional_kwargs"]:
            self._grow_kwargs(stream, fields["additional_kwargs"])
        if fields.get("chunk_position"):
            stream.ended = True
        id_ = fields["id"]
        if id_ != stream.id:
            self._rename(stream, id_)

    def _begin(self, message: BaseMessage, meta: object) -> None:
        if id(meta) in self._ignored or not isinstance(message, BaseMessage):
            return
        shown = message_to_json(message)
        chunk = isinstance(message, BaseMessageChunk)
        if chunk:
            for key in _LATER:
                shown.pop(key, None)
        if self.stale:
            self.purge(self.preview_ids() - self.stale)
        document = self._access.document
        there = value_at(document, self.path)
        if type(there) is not list:
            if there is not MISSING and there is not None:
                self._ignored[id(meta)] = meta  # a channel of another kind
                return
            make_objects(document, self.path[:-1])
            document.set(self.path, [])
            there = value_at(document, self.path)
        if self._knows(message.id):
            # The graph has it already, and its own list tells of changes.
            self._ignored[id(meta)] = meta
            return
        place = self._preview(there, message.id)
        if place is None:
            place = len(there)
            document.set((*self.path, place), shown)
        else:
            make_equal(document, (*self.path, place), merge_message(there[place], shown))
        if not chunk:
            return
        stream = Stream(message.id, (*self.path, place), meta, type(message))
        for other in self._streams.values():
            if other.task is not None and other.task == stream.task:
                other.overtaken = to_json(value_at(document, other.path))
        self._streams[id(meta)] = stream
        if type(shown["content"]) is list:
            stream.text = None
        fields = message.__dict__
        if chunks := fields.get("tool_call_chunks"):
            self._grow_calls(stream, chunks)
        if fields["additional_kwargs"]:
            self._grow_kwargs(stream, fields["additional_kwargs"])

    def _append(self, path: Path, text: str) -> None:
        try:
            self._access.document.append_text(path, text)
        except InvalidValue:  # lone surrogates
            self._access.document.append_text(path, to_json(text))

    def _grow_content(self, stream: Stream, content: Any) -> None:
        document = self._access.document
        path = (*stream.path, "content")
        blocks = value_at(document, path)
        if stream.text is not None:
            document.set(path, [blocks, *map(to_json, content)])
            stream.text = None
            return
        if type(content) is not str:
            self._grow_items(path, blocks, content)
        elif blocks and type(blocks[-1]) is str:
            self._append((*path, len(blocks) - 1), content)
        elif blocks:
            document.set((*path, len(blocks)), to_json(content))

    def _grow_items(self, path: Path, shown: list[Json], more: Sequence[Any]) -> None:
        for item in more:
            place = _place_of(shown, item)
            if place is None:
                self._access.document.set((*path, len(shown)), to_json(item))
            else:
                fields = {key: value for key, value in item.items() if key != "type"}
                self._grow_fields((*path, place), shown[place], fields)

    def _grow_fields(self, path: Path, shown: dict[str, Json], more: Mapping[str, Any]) -> None:
        """Texts and lists grow by what came, other values are replaced by it."""
        for key, value in more.items():
            before = shown.get(key, MISSING)
            kind = type(value)
            if before is not MISSING and (
                value is None or key == "index" or (before == value and key in _SAID_AGAIN)
            ):
                continue
            if kind is str and type(before) is str:
                self._append((*path, key), value)
            elif kind is dict and type(before) is dict:
                self._grow_fields((*path, key), before, value)
            elif kind is list and type(before) is list:
                self._grow_items((*path, key), before, value)
            else:
                make_equal(self._access.document, (*path, key), to_json(value))

    def _grow_kwargs(self, stream: Stream, kwargs: Mapping[str, Any]) -> None:
        more = {key: value for key, value in kwargs.items() if key not in _CALLS_ELSEWHERE}
        if not more:
            return
        path = (*stream.path, "additional_kwargs")
        document = self._access.document
        shown = value_at(document, path)
        if shown is MISSING:
            document.set(path, to_json(more))
        else:
            self._grow_fields(path, shown, more)

    def _grow_calls(self, stream: Stream, chunks: Sequence[Any]) -> None:
        document = self._access.document
        path = (*stream.path, "tool_calls")
        for chunk in chunks:
            index, id_, args = chunk.get("index"), chunk.get("id"), chunk.get("args")
            place = None if index is None else stream.calls.get(index)
            if place is not None and id_:
                first = value_at(document, (*path, place, "id"))
                if first and first != id_:
                    # Some providers give all calls of a message the same index.
                    index = (index, id_)
                    place = stream.calls.get(index)
            if place is not None:
                if args:
                    self._append((*path, place, "partial_json"), args)
                if chunk.get("name"):
                    self._append((*path, place, "name"), chunk["name"])
                if id_:
                    document.set((*path, place, "id"), to_json(id_))
                continue
            calls = value_at(document, path)
            place = 0 if calls is MISSING else len(calls)
            if index is not None:
                stream.calls[index] = place
            call = {
                "name": to_json(chunk.get("name") or ""),
                "args": {},
                "id": to_json(id_),
                "type": "tool_call",
                "partial_json": to_json(args or ""),
            }
            if calls is MISSING:
                document.set(path, [call])
            else:
                document.set((*path, place), call)

    def _rename(self, stream: Stream, id: str | None) -> None:
        """A chunk has another id, as where the provider's own has come; the first of the best stays."""
        if id and _rank(id) > _rank(stream.id):
            stream.id = id
            self._access.document.set((*stream.path, "id"), to_json(id))

    # the graph's own list

    def tell(self, messages: Sequence[Any], *, changed: Collection[str | None] = (), final: bool) -> None:
        """Makes the graph's part of the list equal to `messages`; `final` takes out what is left of previews.

        `changed`: ids of messages that nodes returned, which may have been edited in place.
        """
        known = self.known
        self._before = None
        different = compress(count(), map(is_not, known, messages))
        same = next(different, min(len(known), len(messages)))
        items = self._items()
        shown: list[Json] = items if items is not None else []
        edited = {*changed} - {_id(message) for message in messages[same:]}
        if edited:
            for place in range(same):
                if _id(messages[place]) in edited:
                    self._patch(place, shown[place], messages[place])
        if not self._all_messages:
            for place in range(same):
                if not isinstance(messages[place], BaseMessage):
                    make_equal(self._access.document, (*self.path, place), to_json(messages[place]))
        if same < len(messages) or same < len(known) or (final and len(shown) > same):
            self._tell_rest(same, messages[same:], shown, final)
        if final:
            self.stale.clear()
            self._forget_streams()

    def _tell_rest(self, same: int, messages: Sequence[Any], shown: list[Json], final: bool) -> None:
        rest = shown[same:]
        by_id = {_id(item): item for item in rest}
        wanted = [self._json(by_id, message) for message in messages]
        if not final:
            ids = {_id(message) for message in messages} - {None}
            wanted += [item for item in shown[len(self.known) :] if _id(item) not in ids]
        document = self._access.document
        if self._items() is None:
            document.set(self.path, wanted)
        elif not same:
            make_equal(document, self.path, wanted)
        else:
            for operation in diff(rest, wanted):
                document.edit(_further(self.path, same, operation, len(rest)))
        self._know(same, messages)
        if not final:
            self._find_streams()

    def _json(self, by_id: Mapping[str | None, Any], message: Any) -> Json:
        if not isinstance(message, BaseMessage):
            return to_json(message)
        return merge_message(by_id.get(message.id), message_to_json(message))

    def _patch(self, place: int, shown: Any, message: Any) -> None:
        make_equal(
            self._access.document,
            (*self.path, place),
            merge_message(shown, message_to_json(message)),
        )

    def adopt(self, messages: Sequence[Any]) -> None:
        """Takes these objects for the graph's own where the list shows them already, by their ids."""
        items = self._items() or []
        if list(map(_id, messages)) != list(map(_id, items[: len(messages)])):
            self.tell(messages, final=False)
            return
        self.forget()
        self._before = None
        self._know(0, messages)

    def forget(self) -> None:
        """Nothing is known of the graph's own list any more, and nothing streams."""
        self.known = []
        self._known_ids = None
        self._all_messages = True
        self._forget_streams()

    def purge(self, keep: Collection[str | None]) -> None:
        """Takes out the previews whose id isn't in `keep`: the graph has dropped them."""
        self.stale.clear()
        items = self._items()
        own = self._own()
        if items is None or len(items) == own:
            return
        document = self._access.document
        for place in range(len(items) - 1, own - 1, -1):
            if _id(items[place]) not in keep:
                document.delete((*self.path, place))
        self._find_streams()

    def end_streams(self) -> list[dict[str, Any]]:
        """The previews as they stand, but those of attempts that had failed; nothing streams any more."""
        failed = {stream.id for stream in self._streams.values() if self._has_failed(stream)}
        self._forget_streams()
        previews = (self._items() or [])[self._own() :]
        return [item for item in previews if type(item) is dict and _id(item) not in failed]

    def _has_failed(self, stream: Stream) -> bool:
        """Whether it was given up in the middle, and its task has tried again since.

        Nothing tells of that, but that it has grown no more while the task streams another message.
        """
        if stream.ended or stream.overtaken is None:
            return False
        return bool(stream.overtaken == value_at(self._access.document, stream.path))

    def preview_ids(self) -> set[str | None]:
        return {_id(item) for item in (self._items() or [])[len(self.known) :]}

    # inside

    def _items(self) -> list[Any] | None:
        found = value_at(self._access.document, self.path)
        return found if type(found) is list else None

    def _own(self) -> int:
        """How many of the items are the graph's own, or may be."""
        return len(self.known) if self._before is None else self._before

    def _know(self, same: int, messages: Sequence[Any]) -> None:
        """The graph's own messages are others from the place `same` on."""
        if self._known_ids is not None:
            if same == len(self.known):
                self._known_ids.update(map(_id, messages))
            else:
                self._known_ids = None
        self._all_messages &= all(isinstance(message, BaseMessage) for message in messages)
        self.known[same:] = messages

    def _knows(self, id: str | None) -> bool:
        if self._known_ids is None:
            self._known_ids = set(map(_id, self.known))
        return id is not None and id in self._known_ids

    def _preview(self, items: list[Json], id: str | None) -> int | None:
        """Where the preview of an id stands."""
        if id is not None:
            for place in range(len(self.known), len(items)):
                if _id(items[place]) == id:
                    return place
        return None

    def _forget_streams(self) -> None:
        self._streams.clear()
        self._ignored.clear()

    def _find_streams(self) -> None:
        """Items have moved: finds where those stand that stream, and forgets those that are gone."""
        items = self._items() or []
        places = {_id(items[place]): place for place in range(len(self.known), len(items))}
        for key, stream in list(self._streams.items()):
            place_now = places.get(stream.id) if stream.id is not None else None
            if place_now is None:
                del self._streams[key]
            else:
                stream.move((*self.path, place_now))
