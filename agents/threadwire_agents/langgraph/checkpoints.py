"""What is noted down about a thread's checkpoints: its head, where each message came in, its branches.

A message's note makes an edit or a regeneration a lookup instead of a walk through the history. A
branch is known by the messages that stand beside each other where it parts; what it came to is
noted when it is left.

Names of notes:

    head            the id of the checkpoint that the thread is at; null before the first
    message/ID      [the first checkpoint that holds it, the one to go on from in its place]
    branch/ID       the head of the branch that the message is in, when it was left
    base            the run that began last, and the head then
    call            the call of the graph that goes on, for a later process to take up
    wanted          the run that is to call the graph for a handler, until a checkpoint of that call is there
    unsaved         of a run that was cut short: why, and messages that are to go to the graph's own state
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from threadwire.core.operations import Json
from threadwire.engine.notes import Notes

HEAD = "head"
BASE = "base"
CALL = "call"
UNSAVED = "unsaved"
WANTED = "wanted"


class Call(TypedDict):
    """A call of the graph.

    `start` is where the call goes on from, `messages` has by command the id of the message that it adds and
    the head before, `answers` the interrupts that they answer as these stood before, by command and id.
    It goes another way after the message `after`, beside `branch`.
    """

    run: str
    epoch: int
    start: str | None
    messages: dict[str, tuple[str, str | None]]
    answers: dict[str, dict[str, Json]]
    branch: str | None
    after: str | None


class Checkpoints:
    """The notes of one thread."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self._lineage: set[str] = set()

    @property
    def head(self) -> str | None:
        return self.notes.get(HEAD)

    @head.setter
    def head(self, id: str | None) -> None:
        self.notes[HEAD] = id

    # runs

    def begin(self, run: str) -> None:
        """A run begins here, or goes on."""
        base: Any = self.notes.get(BASE)
        if base is None or base["run"] != run:
            self.notes[BASE] = {"run": run, "head": self.head}

    def base(self, run: str) -> str | None:
        """The head when the run began: all that it has saved came later."""
        base: Any = self.notes.get(BASE)
        head: str | None = base["head"] if base is not None and base["run"] == run else None
        return head

    def want(self, run: str) -> None:
        """A handler wants the run to call the graph."""
        self.notes[WANTED] = run

    def wants(self, run: str) -> bool:
        """Whether it does, and nothing is known to have come of it."""
        return self.notes.get(WANTED) == run

    def has_called(self) -> None:
        """A checkpoint of a call is there."""
        if WANTED in self.notes:
            del self.notes[WANTED]

    def roll_back(self, run: str) -> None:
        """The state is what it was when the run began."""
        base: Any = self.notes.get(BASE)
        if base is not None and base["run"] == run:
            self.head = base["head"]
        unsaved: Any = self.notes.get(UNSAVED)
        if unsaved is not None and unsaved["run"] == run:
            del self.notes[UNSAVED]

    def forget(self) -> None:
        """The checkpoints are lost: nothing is known of where messages came in, or of other branches."""
        for name in self.notes:
            if name.startswith(("message/", "branch/")):
                del self.notes[name]

    # messages

    def follow(self, messages: Iterable[Any]) -> None:
        """These are in the head: others that come are new."""
        self.follow_ids(message.id for message in messages if getattr(message, "id", None))

    def follow_ids(self, ids: Iterable[str]) -> None:
        """As `follow`, by ids."""
        self._lineage = set(ids)

    def saved(
        self, id: str, before: str | None, messages: Sequence[Any], given: dict[str, str | None]
    ) -> None:
        """A checkpoint has become the head. `given`: for messages of commands, the head before."""
        self.head = id
        for message in reversed(messages):
            known = getattr(message, "id", None)
            if known is None:
                continue
            if known in self._lineage:
                break  # messages come at the end, where nothing else was changed
            self._lineage.add(known)
            self.notes[f"message/{known}"] = [id, given.get(known, before)]

    def first(self, message: str) -> str | None:
        """The first checkpoint that holds the message. Raises KeyError where that isn't known."""
        first: str | None = self.notes[f"message/{message}"][0]
        return first

    def is_first(self, checkpoint: str | None, message: str) -> bool:
        """Whether the message is known to have come in with the checkpoint."""
        noted: Any = self.notes.get(f"message/{message}")
        return noted is not None and noted[0] == checkpoint

    def before(self, message: str) -> str | None:
        """The checkpoint to go on from in the message's place. Raises KeyError where that isn't known."""
        before: str | None = self.notes[f"message/{message}"][1]
        return before

    # branches

    def leave(self, message: str) -> None:
        """The branch that the message is in is left as it is."""
        self.notes[f"branch/{message}"] = self.head

    def branch(self, message: str) -> str | None:
        """The head of the branch that the message is in. Raises KeyError where it was never left."""
        head: str | None = self.notes[f"branch/{message}"]
        return head
