"""A ClientSession against a model of the server, with every fault in every order.

Whatever happens, the client never shows a state that the log doesn't hold at that position, and in
the end has the newest one; and each command it sent is in the log exactly once.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from threadwire.core.client_session import ClientSession, SentCommand
from threadwire.core.frames import (
    ClientFrame,
    Close,
    CommandState,
    Heartbeat,
    Open,
    Position,
    Run,
    SendCommand,
    ServerFrame,
    Snapshot,
    Update,
)
from threadwire.core.operations import AppendText, Json, Operation, Set, apply


class Server:
    """One thread, one client; `put` is how far the client has been sent the log on this connection."""

    def __init__(self) -> None:
        self.epoch = 1
        self.rows: Final[list[list[Operation]]] = []
        self.states: Final[list[Json]] = [{"text": "", "done": []}]
        self.epochs: Final = [1]
        self.applied: Final[dict[str, int]] = {}
        self.put: int | None = None
        self.out: Final[deque[ServerFrame]] = deque()

    @property
    def head(self) -> int:
        return len(self.rows)

    def write(self, *operations: Operation) -> None:
        self.rows.append(list(operations))
        self.states.append(apply(self.states[-1], operations))
        self.epochs.append(self.epoch)

    def receive(self, frame: ClientFrame) -> None:
        match frame:
            case Open(since=since):
                known = since is not None and since["seq"] <= self.head
                if known and self.epochs[since["seq"]] == since["epoch"]:
                    self.put = since["seq"]
                    self.flush()
                else:
                    self.snapshot()
                self.out.append(Run(thread="t", run=None))
            case Close():
                self.put = None
            case SendCommand(id=id):
                duplicate = id in self.applied
                if not duplicate:
                    self.write(Set(("done", len(self.states[-1]["done"])), id))
                    self.applied[id] = self.head
                    self.out.append(CommandState(thread="t", id=id, status="queued"))
                self.out.append(
                    CommandState(
                        thread="t", id=id, status="applied", duplicate=duplicate, seq=self.applied[id]
                    )
                )

    def flush(self) -> None:
        if self.put is not None and self.put < self.head:
            ops = [operation for row in self.rows[self.put :] for operation in row]
            epoch = self.epochs[self.head]
            self.out.append(Update(thread="t", epoch=epoch, seq=self.head, from_=self.put, ops=ops))
            self.put = self.head

    def snapshot(self) -> None:
        epoch, state = self.epochs[self.head], self.states[self.head]
        self.out.append(Snapshot(thread="t", epoch=epoch, seq=self.head, state=state, run=None))
        self.put = self.head

    def heartbeat(self) -> None:
        if self.put is not None:
            self.out.append(Heartbeat(heads={"t": (self.epochs[self.put], self.put)}))


class World:
    def __init__(self) -> None:
        self.server = Server()
        self.session = ClientSession()
        self.thread = self.session.open("t").thread
        self.sent: list[SentCommand] = []
        self.session.connected()

    def step(self, action: str) -> None:
        server, session = self.server, self.session
        match action:
            case "write":
                server.write(AppendText(("text",), f"{server.head} "))
            case "send":
                id = str(len(self.sent))
                self.sent.append(session.send("t", id, {"type": "note", "id": id}))
            case "flush":
                server.flush()
            case "snapshot" if server.put is not None:
                server.snapshot()
            case "heartbeat":
                server.heartbeat()
            case "up":
                if (frame := session.next_frame()) is not None:
                    server.receive(frame)
            case "down":
                if server.out:
                    session.receive(server.out.popleft())
            case "lose" if server.out and isinstance(server.out[0], Update):
                server.out.popleft()
            case "repeat" if server.out:
                session.receive(server.out[0])
            case "cut" | "restart":
                session.disconnected()
                server.out.clear()
                server.put = None
                if action == "restart":
                    server.epoch += 1
                    server.write()
                session.connected()
        self.check()

    def check(self) -> None:
        position = self.thread.replica.position
        if position is not None:
            assert position == Position(self.server.epochs[position.seq], position.seq)
            assert self.thread.replica.state == self.server.states[position.seq]

    def settle(self) -> None:
        """No more faults: everything arrives, and then a heartbeat."""
        for _ in range(5):
            for action in ("flush", "heartbeat"):
                self.step(action)
            while (frame := self.session.next_frame()) is not None or self.server.out:
                if frame is not None:
                    self.server.receive(frame)
                self.step("down")


FAULTS = ["lose", "repeat", "snapshot", "cut", "restart"]
REGULAR = ["write", "send", "flush", "flush", "heartbeat", "up", "up", "down", "down", "down"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(FAULTS + REGULAR), min_size=20, max_size=100))
def test_the_client_converges_and_every_command_has_its_effect_once(actions: list[str]) -> None:
    world = World()
    world.settle()
    for action in actions:
        world.step(action)
    world.settle()
    server = world.server
    assert world.thread.replica.position == Position(server.epochs[server.head], server.head)
    assert world.thread.replica.state == server.states[-1]
    assert world.thread.caught_up
    assert [command.status for command in world.sent] == ["applied"] * len(world.sent)
    assert sorted(server.states[-1]["done"], key=int) == [command.frame.id for command in world.sent]
