"""A thread's messages as a tree: branches, the head, and the path from the root to it.

Every message but the first has a parent; siblings are branches. The head is the last message that
is shown. Each message remembers which of its children was shown last, so that switching back to a
branch goes to where it was left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from ..core.operations import Json
from .auto_status import auto_status
from .errors import InvalidMessage, NotFound
from .like import MessageLike, from_thread_message_like, generate_id, parts_of, read_like
from .model import ThreadMessage


class RepositoryItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A message and the one it follows; None at the root."""

    message: ThreadMessage
    parent_id: str | None
    run_config: Json | msgspec.UnsetType = msgspec.UNSET


class ExportedMessageRepository(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A whole tree as JSON, parents before their children. `head_id` is the last message if left out."""

    messages: tuple[RepositoryItem, ...]
    head_id: str | msgspec.UnsetType | None = msgspec.UNSET

    @classmethod
    def from_messages(cls, messages: Iterable[MessageLike]) -> ExportedMessageRepository:
        """Messages in a row, each the parent of the next.

        Raises:
            InvalidMessage: one can't be converted.
        """
        items: list[RepositoryItem] = []
        for like in messages:
            parent_id = items[-1].message.id if items else None
            items.append(RepositoryItem(message=_stored(like), parent_id=parent_id))
        return cls(messages=tuple(items))

    @classmethod
    def from_branches(
        cls,
        items: Iterable[tuple[MessageLike, str | None]],
        *,
        head_id: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> ExportedMessageRepository:
        """Messages with the ids of their parents.

        Raises:
            InvalidMessage: one can't be converted, or has no id.
        """
        read = [(read_like(like), parent_id) for like, parent_id in items]
        for index, (like, _) in enumerate(read):
            if not like.id:
                raise InvalidMessage("a message in a tree has an id", f"{index}.id")
        return cls(
            messages=tuple(RepositoryItem(message=_stored(like), parent_id=parent) for like, parent in read),
            head_id=head_id,
        )


def _stored(like: MessageLike) -> ThreadMessage:
    read = read_like(like)
    # Nobody feeds a nested conversation here: it doesn't keep the message running.
    return from_thread_message_like(read, generate_id(), auto_status(parts_of(read), nested_runs=False))


@dataclass(eq=False)
class _Node:
    """A place in the tree; the root's has no message."""

    children: list[_Message] = field(default_factory=list)
    next: _Message | None = None
    """The child that was shown last."""


@dataclass(eq=False, kw_only=True)
class _Message(_Node):
    parent: _Node
    message: ThreadMessage
    level: int

    @property
    def id(self) -> str:
        return self.message.id

    @property
    def is_optimistic(self) -> bool:
        return bool(self.message.metadata.is_optimistic)


class MessageRepository:
    """The tree of one thread's messages.

    What streaming does, a new value for the head and a child below it, costs the same in a long
    thread as in a short one.
    """

    def __init__(self) -> None:
        self.version = 0
        """Grows with every change."""
        self._messages: dict[str, _Message] = {}
        self._root = _Node()
        self._head: _Message | None = None
        self._path: list[_Message] | None = []  # from the root to the head; None: to be found again
        self._shown: list[ThreadMessage] = []  # their messages
        self._snapshot: tuple[ThreadMessage, ...] | None = ()

    @property
    def head_id(self) -> str | None:
        """The id of the last message that is shown."""
        return self._head.id if self._head else None

    @property
    def canonical_head_id(self) -> str | None:
        """The last shown message that isn't optimistic."""
        head = _persistent(self._head)
        return head.id if head else None

    def messages(self, head_id: str | None = None) -> tuple[ThreadMessage, ...]:
        """The messages from the root to the head, or to another message.

        Raises:
            NotFound: there is no such message.
        """
        if head_id is not None and head_id != self.head_id:
            return tuple(each.message for each in _path_to(self._get(head_id)))
        if self._snapshot is None:
            self._find_path()
            self._snapshot = tuple(self._shown)
        return self._snapshot

    def backwards(self) -> Iterator[ThreadMessage]:
        """The shown messages from the head on; what looks at the end of a thread needs no copy of it."""
        return (each.message for each in _upwards(self._head))

    def adopt(self, messages: tuple[ThreadMessage, ...]) -> None:
        """Gives out this tuple for `messages()`, as long as nothing changes: no other has to be made.

        It has to hold the very messages that are shown.
        """
        if self._snapshot is None:
            self._find_path()
            self._snapshot = messages

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._messages

    def message(self, message_id: str) -> ThreadMessage:
        """Raises NotFound where there is no such message."""
        return self._get(message_id).message

    def parent_id(self, message_id: str) -> str | None:
        """The id of the message before; None at the root. Raises NotFound."""
        return _id(self._get(message_id).parent)

    def index(self, message_id: str) -> int:
        """How many messages come before it on its branch. Raises NotFound."""
        return self._get(message_id).level

    def branches(self, message_id: str) -> tuple[str, ...]:
        """The ids of the message and its siblings, in the order they came. Raises NotFound."""
        return tuple(each.id for each in self._get(message_id).parent.children)

    def is_leaf(self, message_id: str) -> bool:
        """Whether nothing follows the message. Raises NotFound."""
        return not self._get(message_id).children

    def put(self, parent_id: str | None, message: ThreadMessage) -> None:
        """Adds a message below its parent, or gives the one of its id a new value and place.

        A message below the head becomes the head; a sibling of what is shown doesn't.

        Raises:
            NotFound: there is no such parent.
            InvalidMessage: the message would be below itself.
        """
        parent = self._get(parent_id) if parent_id else self._root
        self.version += 1
        known = self._messages.get(message.id)
        if known is None:
            self._add(parent, message)
            return
        if known.parent is not parent:
            if any(each is known for each in _upwards(parent)):
                raise InvalidMessage(f"the message {message.id!r} would be below itself", "parentId")
            known.message = message
            self._unlink(known)
            self._link(parent, known)
            self._forget_path()
            return
        known.message = message
        path = self._path
        if path is not None and known.level < len(path) and path[known.level] is known:
            self._shown[known.level] = message
            self._snapshot = None

    def delete(self, message_id: str, replacement_id: str | msgspec.UnsetType | None = msgspec.UNSET) -> None:
        """Removes a message; what follows it goes below its parent, or below the replacement.

        Raises:
            NotFound: there is no such message or replacement.
            InvalidMessage: a message would be below itself.
        """
        message = self._get(message_id)
        replacement = (
            message.parent
            if replacement_id is msgspec.UNSET
            else self._root
            if replacement_id is None
            else self._get(replacement_id)
        )
        if replacement is message or (
            replacement_id is not msgspec.UNSET and any(each is message for each in _upwards(replacement))
        ):
            raise InvalidMessage(f"what follows {message_id!r} can't go below itself", "replacementId")
        for child in list(message.children):
            self._unlink(child)
            self._link(replacement, child)
        self._unlink(message)
        del self._messages[message_id]
        if self._head is message:
            self._head = _leaf(replacement)
        self._forget_path()

    def switch(self, message_id: str) -> None:
        """Shows the branch that the message is on, as far as it was shown last. Raises NotFound."""
        message = self._get(message_id)
        before = self._head
        self._select(message)
        self._move_head(before, _leaf(message))

    def reset_head(self, message_id: str | None) -> None:
        """Makes the message the head and removes all that follows it; None removes everything.

        Raises:
            NotFound: there is no such message.
        """
        if message_id is None:
            self.clear()
            return
        message = self._get(message_id)
        if message is self._head and not message.children and self._path is not None:
            return
        before = self._head
        pending = list(message.children)
        while pending:
            child = pending.pop()
            pending += child.children
            del self._messages[child.id]
        message.children.clear()
        message.next = None
        self._select(message)
        self._move_head(before, message)

    def clear(self) -> None:
        """Removes everything."""
        self._messages.clear()
        self._root = _Node()
        self._head = None
        self._forget_path()

    def export(self) -> ExportedMessageRepository:
        """The tree without its optimistic messages, parents before their children."""
        items: list[RepositoryItem] = []
        pending = self._root.children[::-1]
        while pending:
            message = pending.pop()
            pending += message.children[::-1]
            if not message.is_optimistic:
                parent = _persistent(message.parent)
                items.append(RepositoryItem(message=message.message, parent_id=_id(parent)))
        return ExportedMessageRepository(messages=tuple(items), head_id=self.canonical_head_id)

    def load(self, exported: ExportedMessageRepository) -> None:
        """Adds the messages and goes to the head; what follows the head is removed.

        Nothing changes where it fails.

        Raises:
            NotFound: a parent or the head isn't there.
            InvalidMessage: a message would be below itself.
        """
        copy = self._copy()
        for item in exported.messages:
            copy.put(item.parent_id, item.message)
        head_id = exported.head_id
        if head_id is msgspec.UNSET or head_id is None:
            head_id = exported.messages[-1].message.id if exported.messages else None
        copy.reset_head(head_id)
        self.__dict__.update({**copy.__dict__, "version": self.version + 1})

    def _copy(self) -> MessageRepository:
        """The same tree in places of its own."""
        copy = MessageRepository()
        places: dict[int, _Node] = {id(self._root): copy._root}
        pending: list[_Node] = [self._root]
        while pending:
            node = pending.pop()
            place = places[id(node)]
            for child in node.children:
                twin = _Message(parent=place, message=child.message, level=child.level)
                places[id(child)] = copy._messages[child.id] = twin
                place.children.append(twin)
                if child is node.next:
                    place.next = twin
                pending.append(child)
        if self._head is not None:
            copy._head = copy._messages[self._head.id]
        copy._forget_path()
        return copy

    # the tree

    def _get(self, message_id: str) -> _Message:
        try:
            return self._messages[message_id]
        except KeyError:
            raise NotFound("message", message_id) from None

    def _add(self, parent: _Node, message: ThreadMessage) -> None:
        node = _Message(parent=parent, message=message, level=_level(parent) + 1)
        self._messages[message.id] = node
        at_head = parent is (self._head or self._root)
        parent.children.append(node)
        if at_head or parent.next is None:
            parent.next = node
        if not at_head:
            return
        self._head = node
        if self._path is not None:
            self._path.append(node)
            self._shown.append(message)
            self._snapshot = None

    def _unlink(self, node: _Message) -> None:
        parent = node.parent
        parent.children.remove(node)
        if parent.next is node:
            parent.next = parent.children[-1] if parent.children else None

    def _link(self, parent: _Node, node: _Message) -> None:
        parent.children.append(node)
        node.parent = parent
        if _leaf(node) is self._head:
            self._select(node)
        elif parent.next is None:
            parent.next = node
            if self._head is parent:
                self._head = _leaf(node)
        pending = [(node, _level(parent) + 1)]
        while pending:
            each, level = pending.pop()
            each.level = level
            pending += [(child, level + 1) for child in each.children]

    def _select(self, message: _Message) -> None:
        node = message
        while isinstance(node.parent, _Message):
            node.parent.next = node
            node = node.parent
        node.parent.next = node

    def _move_head(self, before: _Message | None, head: _Message | None) -> None:
        self._head = head
        self._forget_path()
        if before is not None and before is not head:
            self._drop_optimistic(before)

    def _drop_optimistic(self, left: _Message) -> None:
        """Optimistic messages live only as long as they are shown."""
        shown = {id(each) for each in _upwards(self._head)}
        stale = []
        for message in _upwards(left):
            if id(message) in shown:
                break
            if message.is_optimistic:
                stale.append(message.id)
        for message_id in stale:
            if message_id in self._messages:
                self.delete(message_id)

    # the path to the head

    def _find_path(self) -> None:
        if self._path is None:
            self._path = _path_to(self._head)
            self._shown = [each.message for each in self._path]

    def _forget_path(self) -> None:
        self.version += 1
        self._path = None
        self._snapshot = None


def _leaf(node: _Node) -> _Message | None:
    while node.next is not None:
        node = node.next
    return node if isinstance(node, _Message) else None


def _upwards(node: _Node | None) -> Iterator[_Message]:
    while isinstance(node, _Message):
        yield node
        node = node.parent


def _path_to(node: _Message | None) -> list[_Message]:
    return list(_upwards(node))[::-1]


def _persistent(node: _Node | None) -> _Message | None:
    return next((each for each in _upwards(node) if not each.is_optimistic), None)


def _level(node: _Node) -> int:
    return node.level if isinstance(node, _Message) else -1


def _id(node: _Node | None) -> str | None:
    return node.id if isinstance(node, _Message) else None
