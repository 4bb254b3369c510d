"""Servers as processes of their own on one PostgreSQL, clients spread over them, and what all must hold.

`Load` sends commands from clients that connect to any node and come back when they are cut off; what each
is shown is checked as it comes (see `View`). `Load.check` compares it with the database at the end.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import msgspec
from websockets.exceptions import WebSocketException

from tests.support.server import Client, Server, View, user_messages
from threadwire.core.codec import decode_log
from threadwire.core.frames import CommandState, Error, Goodbye, Heartbeat, Run
from threadwire.core.operations import Json, apply

SCRIPTED = "scripted=threadwire_agents.demos.scripted:scripted"
FINAL = ("applied", "rejected", "cancelled")
TRANSIENT = ("store-unavailable", "draining", "overloaded")


class Node(Server):
    """A server that can be paused, and that keeps its port when it is started again."""

    def __init__(self, store: str, log: Path, *args: str, target: str = SCRIPTED) -> None:
        super().__init__(store, log, target, *args)
        self.last_port = 0
        self.up = False

    async def start(self, *, port: int = 0) -> None:
        await super().start(port=port or self.last_port)
        self.last_port = self.port
        self.up = True

    async def kill(self) -> None:
        self.up = False
        await super().kill()

    async def stop(self) -> int:
        self.up = False
        return await super().stop()

    def pause(self) -> None:
        assert self.process is not None
        self.up = False
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.up = True


@asynccontextmanager
async def cluster(
    directory: Path, store: str, count: int, *args: str, lease_s: float = 1.0, target: str = SCRIPTED
) -> AsyncIterator[list[Node]]:
    nodes = [
        Node(store, directory / f"node-{number}.log", "--lease-s", str(lease_s), *args, target=target)
        for number in range(count)
    ]
    try:
        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(node.start)
        yield nodes
    finally:
        with anyio.CancelScope(shield=True):
            for node in nodes:
                if node.process is not None and node.process.returncode is None:
                    with suppress(ProcessLookupError):
                        node.process.send_signal(signal.SIGCONT)
                await node.kill()


class Load:
    """Clients that read and send, each on one thread, until `finish`.

    Attributes:
        sent: the texts of all commands by (thread, id).
        acknowledged: those that were said to be durable.
        longest_s: the longest that a client of a thread with a run under way was shown nothing.
    """

    def __init__(
        self, nodes: list[Node], threads: list[str], *, dice: random.Random, readers: int = 2
    ) -> None:
        self.nodes = nodes
        self.threads = threads
        self.dice = dice
        self.sent: dict[tuple[str, str], str] = {}
        self.finals: dict[tuple[str, str], CommandState] = {}
        self.acknowledged: set[tuple[str, str]] = set()
        self.errors: list[str] = []
        self.rejected: list[CommandState] = []
        self.views: list[tuple[str, View]] = []
        self.reconnects = 0
        self.snapshots = 0
        self.every_s = 0.6
        self.texts = ("count 5", "count 40 every 10", "count 10 every 50", "hello there")
        self.longest_s = 0.0
        self._readers = readers
        self._sending = True
        self._ending = False
        self._group: anyio.abc.TaskGroup

    async def __aenter__(self) -> Load:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        for thread in self.threads:
            for number in range(self._readers):
                view = View()
                self.views.append((thread, view))
                self._group.start_soon(self._live, thread, view, number)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._ending = True
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(*error)

    # one client

    async def _live(self, thread: str, view: View, number: int) -> None:
        while not self._ending:
            live = [node for node in self.nodes if node.up]
            if not live:
                await asyncio.sleep(0.02)
                continue
            node = self.dice.choice(live)
            try:
                with anyio.fail_after(5):  # it may be paused
                    client = await node.connect(self.dice.choice(("json", "msgpack")))
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(0.02)
                continue
            with suppress(OSError, TimeoutError, WebSocketException):
                async with client:
                    await self._converse(client, thread, view, number)
            if not self._ending:
                self.reconnects += 1

    async def _converse(self, client: Client, thread: str, view: View, number: int) -> None:
        client.views[thread] = view
        await client.open(thread)
        for (its_thread, id), text in list(self.sent.items()):
            if its_thread == thread and (thread, id) not in self.finals:
                await client.say(thread, id, text)
        async with anyio.create_task_group() as group:
            if number == 0:
                group.start_soon(self._send, client, thread)
            with suppress(OSError, TimeoutError, WebSocketException):
                await self._read(client, thread, view)
            group.cancel_scope.cancel()

    async def _send(self, client: Client, thread: str) -> None:
        while self._sending:
            id = f"c{len(self.sent)}"
            text = self.sent[thread, id] = self.dice.choice(self.texts)
            with suppress(OSError, WebSocketException):
                await client.say(thread, id, text)
            await asyncio.sleep(self.every_s * self.dice.uniform(0.5, 1.5))

    async def _read(self, client: Client, thread: str, view: View) -> None:
        loop = asyncio.get_running_loop()
        shown_at = loop.time()
        while True:
            with anyio.fail_after(8):  # a paused node, heard of no more; heartbeats come each 15 s
                while True:
                    before = view.seq
                    frames = await client.receive()
                    break
            for frame in frames:
                match frame:
                    case CommandState():
                        self._command(frame)
                    case Run():
                        shown_at = loop.time()
                    case Goodbye():
                        return
                    case Error() if frame.id is None and frame.thread == thread:
                        self.errors.append(frame.code)
                        await asyncio.sleep(0.05)
                        await client.open(thread)
                    case Heartbeat():
                        head = frame.heads.get(thread)
                        assert head is None or tuple(head) == (view.epoch, view.seq)
            now = loop.time()
            if view.seq != before:
                if view.run is not None and view.run.status == "running":
                    self.longest_s = max(self.longest_s, now - shown_at)
                shown_at = now

    def _command(self, frame: CommandState) -> None:
        key = (frame.thread, frame.id)
        if frame.status == "rejected" and frame.error is not None and frame.error.code in TRANSIENT:
            return
        self.acknowledged.add(key)
        if frame.status in FINAL:
            first = self.finals.setdefault(key, frame)
            assert (first.status, first.seq) == (frame.status, frame.seq), f"{first}, {frame}"
            if frame.status == "rejected":
                self.rejected.append(frame)

    # the end

    async def finish(self, timeout_s: float = 180) -> None:
        """No more is sent; returns when all is settled and every client has seen the end."""
        self._sending = False
        with anyio.fail_after(timeout_s):
            while not await self._settled():
                for thread in self.threads:
                    await self._nudge(thread)
                await asyncio.sleep(0.2)

    async def _settled(self) -> bool:
        if any(key not in self.finals for key in self.sent):
            return False
        for thread in self.threads:
            views = [view for its_thread, view in self.views if its_thread == thread]
            heads = {(view.epoch, view.seq) for view in views}
            if len(heads) != 1:
                return False
            if any(view.run is None or view.run.status in ("queued", "running") for view in views):
                return False
        return True

    async def _nudge(self, thread: str) -> None:
        """Sends what isn't settled once more, over a connection of its own."""
        left = [id for (its, id) in self.sent if its == thread and (its, id) not in self.finals]
        live = [node for node in self.nodes if node.up]
        if not left or not live:
            return
        with suppress(OSError, TimeoutError, WebSocketException):
            async with await self.dice.choice(live).connect() as client:
                for id in left[:50]:
                    await client.say(thread, id, self.sent[thread, id])
                with anyio.move_on_after(0.5):
                    while True:
                        for frame in await client.receive():
                            if isinstance(frame, CommandState):
                                self._command(frame)

    async def check(self, url: str) -> dict[str, int]:
        """What the database holds is whole, each command was done once, and all have seen the same.

        Returns counts, for the record.
        """
        connection = await asyncpg.connect(url)
        try:
            rows = 0
            for thread in self.threads:
                rows += await self._check_thread(connection, thread)
        finally:
            await connection.close()
        return {
            "commands": len(self.sent),
            "acknowledged": len(self.acknowledged),
            "rows": rows,
            "reconnects": self.reconnects,
            "snapshots": sum(view.snapshots for _, view in self.views),
            "rejected": len(self.rejected),
        }

    async def _check_thread(self, connection: Any, thread: str) -> int:
        records = await connection.fetch(
            "SELECT seq, epoch, data FROM log WHERE thread = $1 ORDER BY seq", thread
        )
        floor = await connection.fetchval("SELECT floor_seq FROM thread WHERE id = $1", thread)
        assert [row["seq"] for row in records] == list(range(floor + 1, floor + 1 + len(records))), "a gap"
        epochs = [row["epoch"] for row in records]
        assert epochs == sorted(epochs), "an old epoch has written"
        state: Json = {}
        if floor:
            data = await connection.fetchval(
                "SELECT data FROM snapshot WHERE thread = $1 AND seq = $2", thread, floor
            )
            state = msgspec.msgpack.decode(data) if data else None
        if state is not None:
            for row in records:
                state = apply(state, decode_log(row["data"]))
        statuses = dict(await connection.fetch("SELECT id, status FROM inbox WHERE thread = $1", thread))
        for its_thread, view in self.views:
            if its_thread == thread:
                assert state is None or view.state == state
                shown = user_messages(view.state)
                for its, id in self.sent:
                    if its == thread:
                        times = shown.count(f"m-{id}")
                        assert times <= 1, f"{id} was done {times} times"
                        assert times == (statuses.get(id) == "applied"), (id, statuses.get(id), times)
        for its, id in self.acknowledged:
            if its == thread:
                assert statuses[id] == self.finals[its, id].status
        return len(records)
