"""A server, its clients and its store on a virtual clock, driven at random by one seed.

Each client folds what it is sent and compares every state that it reaches with what the disk holds at
that position: what is shown before it is durable, left out, sent twice or made of the wrong base is
found at once. What each command has done to the state is counted at the end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from unittest.mock import patch

import anyio

from tests.support import virtual_time
from tests.support.browsers import Browser, end_all
from tests.support.faulty_store import Faults, FaultyStore, Truth, at_once
from tests.support.hosted_ledger import HOSTED_BEHAVIOURS, HostedLedger
from tests.support.ledger import BEHAVIOURS, Ledger, some_body
from tests.support.wire import Wire
from threadwire.core.codec import Encoding
from threadwire.core.errors import StoreError
from threadwire.core.frames import CommandState, Error, Heartbeat, Run, RunInfo, Snapshot, Update
from threadwire.core.operations import Json, apply
from threadwire.endpoints import assistant
from threadwire.endpoints.http import http_application
from threadwire.endpoints.websocket import WebSocketEndpoint
from threadwire.engine import feed, subscriber
from threadwire.engine.agent import Agent
from threadwire.engine.anonymous import AnonymousThreads
from threadwire.engine.settings import Settings
from threadwire.engine.store import RunRecord
from threadwire.engine.threads import Threads

FINAL: Final = ("applied", "rejected", "cancelled")
ENDED: Final = ("completed", "failed", "cancelled")
TRANSIENT: Final = ("store-unavailable", "thread-busy")
"""Rejections that leave no trace of a command, or say nothing of it."""
THREADS: Final = ("t1", "t2")
STRATEGIES: Final = (
    *(None, None, "enqueue", "interrupt", "interrupt", "reject", "steer", "steer", "steer"),
    *("rollback", "rollback"),
)


def simulate(seed: int) -> None:
    """Plays one seed.

    Raises:
        AssertionError: a promise was broken; a note on it names the seed.
    """
    complaints = _Complaints()
    logger = logging.getLogger("threadwire")
    logger.addHandler(complaints)
    propagates, logger.propagate = logger.propagate, False
    # With some seeds a slow reader is given a snapshot soon, though all states are small.
    backlog = 200 if seed % 3 == 0 else subscriber._MIN_BACKLOG_BYTES
    try:
        with (
            patch.object(subscriber, "_MIN_BACKLOG_BYTES", backlog),
            patch.object(feed, "_MIN_BACKLOG_BYTES", backlog),
        ):
            virtual_time.run(_World(seed).play())
        assert not complaints.texts, complaints.texts[0]
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}", *complaints.texts]))
        raise
    finally:
        logger.removeHandler(complaints)
        logger.propagate = propagates


class _Complaints(logging.Handler):
    """What the server logs of faults of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "did not take an update" not in message and "agent failed" not in message:
            self.texts.append(self.format(record))


class _Sent:
    """A command, as all clients together know it."""

    def __init__(self, thread: str, id: str, body: dict[str, Json], strategy: str | None) -> None:
        self.thread = thread
        self.id = id
        self.body = body
        self.strategy = strategy
        self.acknowledged = False
        self.final: CommandState | None = None

    def frame(self) -> dict[str, Any]:
        frame = {"type": "command", "thread": self.thread, "id": self.id, "command": self.body}
        return frame if self.strategy is None else {**frame, "strategy": self.strategy}


class _Replica:
    """What a client has been shown of a thread."""

    def __init__(self) -> None:
        self.state: Json = None
        self.position: tuple[int, int] | None = None
        self.run: RunInfo | None = None
        self.counts: dict[str, Any] = {}
        """How often each run had written, by the state, when the run was said to have ended."""
        self.disconnected()

    def disconnected(self) -> None:
        self.opened = False
        """The client has asked for it last, and was not refused."""
        self.asked = False
        """It has asked for it on this connection before."""
        self.live = False
        """An answer has come, and the thread was not closed since."""
        self.reopened = False
        """It was closed on this connection and opened again: an answer may have come to the open before."""
        self.told_of: list[str] = []
        """Runs, in the order in which they were told of."""
        self.due = 0
        """What was durable when it was asked for on this connection."""


class _Client:
    """Folds what it is sent, by the rules for clients but without their patience."""

    def __init__(self, world: _World, number: int) -> None:
        self._world = world
        self._name = f"client {number}"
        self._encoding: Encoding = world.dice.choice(("json", "msgpack"))
        self._plain = world.dice.random() < 0.25
        self._statuses: dict[tuple[str, str], str] = {}
        """Of the commands sent on this connection."""
        self._refused: set[tuple[str, str]] = set()
        """Those of them that are to be sent again."""
        self.replicas = {thread: _Replica() for thread in THREADS}
        self.wire: Wire | None = None

    def connect(self) -> Wire:
        if self.wire is None or self.wire.gone:
            self.wire = Wire(self._encoding, self._take, plain=self._plain)
            self._statuses.clear()
            self._refused.clear()
            for replica in self.replicas.values():
                replica.disconnected()
            self._world.serve(self.wire)
        return self.wire

    def drop(self) -> None:
        if self.wire is not None:
            self.wire.hang_up()

    def say(self, *frames: dict[str, Any]) -> None:
        if frames:
            self.connect().say(*frames)

    def open(self, thread: str) -> dict[str, Any]:
        self.connect()
        dice, replica = self._world.dice, self.replicas[thread]
        frame: dict[str, Any] = {"type": "open", "thread": thread}
        if not replica.asked and replica.position is not None and dice.random() < 0.8:
            # Only once a connection: an earlier answer may be on its way, and lead on from elsewhere.
            epoch, seq = replica.position
            frame["since"] = {"epoch": epoch, "seq": seq}
        elif dice.random() < 0.1:
            frame["since"] = dice.choice(({"epoch": 0, "seq": 0}, {"epoch": 1, "seq": 10**6}, 7))
        if dice.random() < 0.5:
            frame["tools"] = ["look"]
        if not replica.asked:
            replica.due = self._world.durable(thread)
        replica.opened = replica.asked = True
        return frame

    def close(self, thread: str) -> dict[str, Any]:
        replica = self.replicas[thread]
        replica.opened = replica.live = False
        replica.reopened = True
        return {"type": "close", "thread": thread}

    def _take(self, frame: Any) -> None:
        try:
            self._fold(frame)
        except Exception as error:
            # Not raised: the server is not to notice.
            self._world.failures.append(f"{self._name} ({self._encoding}) on {frame}: {error!r}")

    def _fold(self, frame: Any) -> None:
        match frame:
            case Snapshot():
                replica = self.replicas[frame.thread]
                before = replica.due if replica.position is None else max(replica.due, replica.position[1])
                # A node that takes its own thread again late writes an empty row, which changes nothing.
                missed = self._world.store.truth[frame.thread].states[frame.seq + 1 : before + 1]
                assert all(state == frame.state for state in missed), (
                    f"back in time: {before} was there to see"
                )
                replica.state, replica.position = frame.state, (frame.epoch, frame.seq)
                self._compare(frame.thread, replica)
            case Update():
                replica = self.replicas[frame.thread]
                assert replica.position is not None
                assert frame.base == replica.position[1], f"is at {replica.position}"
                replica.state = apply(replica.state, frame.ops)
                replica.position = (frame.epoch, frame.seq)
                self._compare(frame.thread, replica)
            case Run():
                self._see_run(frame.thread, frame.run)
            case CommandState():
                self._see_command(frame)
            case Heartbeat():
                for thread, head in frame.heads.items():
                    assert self.replicas[thread].position == tuple(head), self.replicas[thread].position
            case Error():
                assert frame.code in ("store-unavailable", "not-found"), frame
                if frame.thread is not None and frame.id is None:
                    self.close(frame.thread)

    def _compare(self, thread: str, replica: _Replica) -> None:
        assert replica.position is not None
        epoch, seq = replica.position
        truth = self._world.store.truth[thread]
        assert seq <= truth.head, f"shown before it is durable: {seq} > {truth.head}"
        assert replica.state == truth.states[seq], f"{replica.state} is not {truth.states[seq]}"
        assert epoch == truth.epochs[seq]
        assert isinstance(replica.state, dict)
        replica.live = replica.opened
        for run, count in replica.counts.items():
            assert replica.state["runs"].get(run) == count, f"the run {run} has written after its end"

    def _see_run(self, thread: str, run: RunInfo | None) -> None:
        replica = self.replicas[thread]
        before, replica.run = replica.run, run
        if run is None:
            return
        if run.id in replica.told_of:
            assert before is not None
            assert replica.told_of[-1] == run.id, f"it was told of a later one: {before}"
            assert before.status not in ENDED or before == run, f"it was {before}"
        else:
            replica.told_of.append(run.id)
        record = self._world.store.disk._threads[thread].runs.get(run.id)
        assert record is not None, "it isn't durable"
        if run.status not in ENDED:
            return
        assert record.status == run.status, f"it is {record}"
        known = self._world.ends.setdefault(run.id, run)
        assert known == run, f"it has ended already: {known}"
        if replica.live and not replica.reopened:
            shown, written = replica.state, self._world.store.truth[thread].states[-1]
            assert isinstance(shown, dict)
            count = shown.get("runs", {}).get(run.id)
            assert count == written.get("runs", {}).get(run.id), "the run's last update comes after its end"
            if count is not None:
                replica.counts[run.id] = count

    def _see_command(self, frame: CommandState) -> None:
        key = (frame.thread, frame.id)
        sent = self._world.commands[key]
        before = self._statuses.get(key)
        refused = frame.error.code if frame.status == "rejected" and frame.error is not None else None
        # A node that follows learns that the thread is busy when the command is durable already.
        queued_before = refused == "thread-busy" and (frame.duplicate or before is not None)
        if refused in TRANSIENT and not queued_before:
            assert not frame.duplicate
            self._refused.add(key)
            return
        if not frame.duplicate:
            expected = {
                "queued": (None, "queued", "running"),
                "running": ("queued", "running"),
                "applied": ("queued", "running"),
                "rejected": (None, "queued", "running"),
                "cancelled": ("queued", "running"),
            }
            assert before in expected[frame.status], f"{frame.status} after {before}"
        self._statuses[key] = frame.status
        self._refused.discard(key)
        sent.acknowledged = sent.acknowledged or frame.status != "rejected" or before is not None
        record = self._world.store.disk._threads[frame.thread].commands.get(frame.id)
        assert record is not None or not sent.acknowledged, "it isn't durable"
        if frame.status in FINAL:
            assert record is None or record.status == frame.status, f"it is {record}"
            first = sent.final = sent.final or frame
            assert (first.status, first.seq) == (frame.status, frame.seq), f"it was {first}"
        if frame.status == "applied":
            assert frame.seq is not None
            effects = self._world.store.truth[frame.thread].states[frame.seq].get("effects", ())
            assert frame.id in effects or not self._world.has_effect(sent), "no effect at its seq"

    def waits_in_vain(self) -> list[tuple[Wire, str, str, str]]:
        """Commands that were settled without a word to this connection: (itself, thread, id, last status)."""
        wire = self.wire
        if wire is None or wire.gone or wire.slow:
            return []
        threads = self._world.store.disk._threads
        return [
            (wire, thread, id, status)
            for (thread, id), status in self._statuses.items()
            if status not in FINAL
            and (thread, id) not in self._refused
            and threads[thread].commands[id].status in FINAL
        ]


class _World:
    def __init__(self, seed: int) -> None:
        dice = self.dice = random.Random(seed)
        self._faulty = Faults(
            refused=dice.choice((0, 0, 0.02, 0.2)),
            unknown=dice.choice((0, 0, 0.02, 0.2)),
            at_once=dice.choice((0, 0, 0.5, 1)),
            delays_s=dice.choice(((0.0,), (0.0, 0.0, 0.002), (0.0, 0.001, 0.02), (0.0, 0.0, 0.3))),
        )
        self._forgets = dice.random() < 0.5
        self._sound = Faults(delays_s=self._faulty.delays_s)
        self.store = FaultyStore(random.Random(seed + 1), self._sound)
        ids = iter(range(10**9))
        self._settings = Settings(
            clock=lambda: 1_000_000 + asyncio.get_running_loop().time(),
            new_id=lambda: f"id{next(ids)}",
            idle_s=dice.choice((0.5, 5, 60)),
            store_patience_s=dice.choice((0.2, 2, 10)),
            tool_grace_s=dice.choice((0.1, 10)),
            history_updates=dice.choice((3, 50, 10_000)),
            history_s=dice.choice((0, 10, 10**6)),
        )
        self._without_effect: set[str] = set()
        self.commands: dict[tuple[str, str], _Sent] = {}
        self.ends: dict[str, RunInfo] = {}
        self.failures: list[str] = []
        self._hosted = seed % 2 == 1
        self._agent: Agent = (
            HostedLedger(random.Random(seed + 2), self._without_effect, self.failures)
            if self._hosted
            else Ledger(random.Random(seed + 2), self._without_effect).agent
        )
        self._clients = [_Client(self, number) for number in range(dice.randrange(1, 5))]
        self._browsers = [
            Browser(f"browser {number}", self.store, self.failures) for number in range(dice.randrange(3))
        ]
        self._http: Any = None
        self._requests: set[asyncio.Task[None]] = set()
        self._threads: Threads
        self._endpoint: WebSocketEndpoint
        self._robbed: set[str] = set()
        """Threads that another owner took in this life of the server."""
        self._connections: set[asyncio.Task[None]] = set()
        self._engines: list[Threads] = []
        """All of them: they hold on to tasks that don't end when they are cancelled."""

    async def play(self) -> None:
        lives = self.dice.randrange(1, 4)
        for life in range(lives - 1):
            with suppress(StoreError):  # then it could not even start
                await self._live(crashes=self.dice.random() < 0.6)
            assert not self.failures, f"in life {life}: {self.failures[0]}"
        self.store.faults = self._sound
        await self._live(crashes=False, last=True)
        assert not self.failures, self.failures[0]

    async def _live(self, *, crashes: bool, last: bool = False) -> None:
        """One life of the server."""
        self._robbed.clear()
        async with self._server(crashes=crashes):
            self.store.faults = self._faulty
            for _ in range(self.dice.randrange(5, 40)):
                self._act()
                await self._wait()
                assert not self.failures, self.failures[0]
                for thread in self._threads.loaded() if self._forgets else ():
                    thread._history._max_updates = 4  # then resuming reads the store
            self.store.out = False
            if last:
                self.store.faults = self._sound
                if self.dice.random() < 0.5:
                    await self._be_left_alone()
                await self._come_to_rest()
                self._check()

    @asynccontextmanager
    async def _server(self, *, crashes: bool) -> AsyncIterator[None]:
        """The server from its start to a stop in order, or to a crash."""
        async with self.store:
            agents = {"ledger": self._agent}
            self._threads = Threads(agents=agents, store=self.store, settings=self._settings)
            self._engines.append(self._threads)
            try:
                async with self._threads:
                    self._endpoint = WebSocketEndpoint(self._threads)
                    routes = assistant.routes(self._threads, AnonymousThreads(self._threads))
                    self._http = http_application(routes, settings=self._settings)
                    beat = asyncio.ensure_future(self._endpoint.beat())
                    try:
                        yield
                    finally:
                        beat.cancel()
                        if crashes:
                            self.store.crash()
                            self._threads.draining = True
                        else:
                            self._endpoint.goodbye("the server stops")
                            await self._threads.drain(self.dice.choice((0, 0.5, 5)))
                        for client in self._clients:
                            client.drop()
                        await end_all(self._browsers, self._requests, crashes=crashes)
                        while self._connections:
                            await asyncio.wait(self._connections)
            except StoreError:
                self.store.crash()
                raise

    def serve(self, wire: Wire) -> None:
        task = asyncio.ensure_future(self._serve(wire))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, wire: Wire) -> None:
        with suppress(OSError):  # gone before it was accepted
            await self._endpoint(wire.scope, wire.receive, wire.send)
        wire.hang_up()

    def durable(self, thread: str) -> int:
        """The seq up to which whoever asks now is shown a thread at least."""
        truth = self.store.truth.get(thread)
        return 0 if truth is None or thread in self._robbed else truth.head

    # what happens

    async def _wait(self) -> None:
        dice = self.dice
        for _ in range(dice.choice((0, 0, 1, 1, 3, 10))):
            await asyncio.sleep(0)
        pause_s = dice.choice((None, None, None, None, 0.001, 0.01, 0.2, 1.5))
        if dice.random() < 0.02:
            pause_s = dice.choice((16, 90))
        if pause_s is not None:
            await asyncio.sleep(pause_s)

    def _act(self) -> None:
        dice = self.dice
        if dice.random() < 0.3:
            for peer in self._endpoint._peers:
                peer.connection.heartbeat()
        client = dice.choice(self._clients)
        thread = dice.choice(THREADS if dice.random() < 0.3 else THREADS[:1])
        if self._hosted and dice.random() < 0.5 and self._say_answers(client, thread):
            return
        if self._browsers and dice.random() < 0.3:
            self._browse(dice.choice(self._browsers), thread)
            return
        match dice.randrange(22):
            case 0 | 1 | 2 | 3 | 4:
                client.say(*[self._command(thread).frame() for _ in range(dice.choice((1, 1, 1, 2, 5)))])
            case 5 | 6 if self.commands:
                client.say(dice.choice(list(self.commands.values())).frame())
            case 7 | 8:
                client.say(self._cancel(client, thread))
            case 9 | 10:
                client.say(client.open(thread))
            case 11:
                opening, command = client.open(thread), self._command(thread).frame()
                client.say(opening, command, self._cancel(client, thread))
            case 12:
                client.drop()
            case 13 | 14:
                client.drop()
                client.connect()
                client.say(*[client.open(each) for each in THREADS])
            case 15:
                client.say(client.close(thread))
            case 16 | 17:
                wire = client.connect()
                if wire.slow:
                    wire.speed_up()
                else:
                    wire.slow_down()
                    client.say(self._cancel(client, thread))
            case 18 | 19:
                self._say_answers(client, thread)
            case 20:
                self.store.out = not self.store.out
            case 21 if dice.random() < 0.3 and thread in self.store.truth:
                self._robbed.add(thread)
                at_once(self.store.rob(thread))

    def _say_answers(self, client: _Client, thread: str) -> bool:
        """Whether there was anything to say."""
        said = False
        for _ in range(self.dice.choice((1, 1, 2))):
            answer = self._answer(client, thread)
            if answer is not None:
                client.say(*[answer.frame()] * self.dice.choice((1, 1, 2)))
                said = True
        return said

    def _browse(self, browser: Browser, thread: str) -> None:
        dice = self.dice
        match dice.randrange(8):
            case 0 | 1 | 2 | 3 | 4:
                if dice.random() < 0.6:
                    sent = [
                        self._add(thread, some_body(dice, self._next_id(), self._behaviours))
                        for _ in range(dice.choice((1, 1, 3)))
                    ]
                else:
                    known = [each for each in self.commands.values() if each.thread == thread]
                    sent = dice.sample(known, min(len(known), dice.choice((0, 1, 2))))
                work = browser.ask(self._http, thread, sent, dice.randrange(8))
                request = asyncio.ensure_future(work)
                self._requests.add(request)
                request.add_done_callback(self._requests.discard)
            case 5:
                browser.hang_up()
            case 6 | 7:
                browser.be_slow(dice.random() < 0.5)

    @property
    def _behaviours(self) -> Sequence[str]:
        return HOSTED_BEHAVIOURS if self._hosted else BEHAVIOURS

    def _command(self, thread: str) -> _Sent:
        body = some_body(self.dice, self._next_id(), self._behaviours)
        return self._add(thread, body, self.dice.choice(STRATEGIES))

    def _answer(self, client: _Client, thread: str) -> _Sent | None:
        state = client.replicas[thread].state
        own = state.get("threadwire", {}) if isinstance(state, dict) else {}
        if own.get("interrupts"):
            some = self.dice.sample(list(own["interrupts"]), self.dice.randint(1, len(own["interrupts"])))
            answers: dict[str, Json] = dict.fromkeys(some, 1)
            return self._add(thread, {"type": "resume", "answers": answers})
        if own.get("tool_calls"):
            call = self.dice.choice(list(own["tool_calls"]))
            return self._add(thread, {"type": "add-tool-result", "toolCallId": call, "result": 1})
        if self._hosted and self.dice.random() < 0.1:
            return self._add(thread, {"type": "resume", "answers": {}})
        return None

    def _next_id(self) -> str:
        return f"c{len(self.commands)}"

    def _add(self, thread: str, body: dict[str, Json], strategy: str | None = None) -> _Sent:
        command = _Sent(thread, self._next_id(), body, strategy)
        self.commands[thread, command.id] = command
        return command

    def _cancel(self, client: _Client, thread: str) -> dict[str, Any]:
        frame: dict[str, Any] = {"type": "cancel", "thread": thread}
        run = client.replicas[thread].run
        if run is not None and self.dice.random() < 0.5:
            frame["run"] = run.id
        return frame

    # the end

    async def _be_left_alone(self) -> None:
        """What was acknowledged is done though no client comes back for it."""
        for client in self._clients:
            client.drop()
        for _ in range(10):
            await asyncio.sleep(30)
            for id in await self.store.unfinished():
                with suppress(StoreError):  # robbed, as it finds out now
                    thread = await self._threads.find(id)
                    assert thread is not None
                    if thread.runner.busy and thread.run_info is not None:
                        await thread.runner.cancel(thread.run_info.id)
        for sent in self.commands.values():
            if sent.acknowledged and sent.thread not in self._robbed:
                record = self.store.disk._threads[sent.thread].commands[sent.id]
                assert record.status in FINAL, f"left: {record}"

    async def _come_to_rest(self) -> None:
        """Every client is back, what isn't settled is sent again, what goes on for ever is cancelled."""
        for browser in self._browsers:
            browser.be_slow(False)
        for id in self._robbed:
            # An owner learns that it was robbed when it writes.
            self._add(id, {"type": "mark", "name": self._next_id()})
        with anyio.fail_after(3600):
            resting = False
            while not resting:
                for client in self._clients:
                    client.connect().speed_up()
                    client.say(*[client.open(id) for id in THREADS if not client.replicas[id].opened])
                client = self.dice.choice(self._clients)
                for sent in self.commands.values():
                    if sent.final is None:
                        client.say(sent.frame())
                await asyncio.sleep(5)
                assert not self.failures, self.failures[0]
                for thread in self._threads.loaded():
                    if thread.runner.busy:
                        client.say({"type": "cancel", "thread": thread.id})
                await asyncio.sleep(5)
                resting = (
                    all(replica.opened for each in self._clients for replica in each.replicas.values())
                    and not any(thread.runner.busy for thread in self._threads.loaded())
                    and all(sent.final for sent in self.commands.values() if sent.acknowledged)
                )
        await asyncio.sleep(20)  # stubborn agents end by themselves

    def _check(self) -> None:
        for thread, truth in self.store.truth.items():
            held = self.store.disk._threads[thread]
            assert not held.open_commands, f"left: {held.open_commands}"
            for run in held.runs.values():
                assert run.status in ENDED, f"{run} goes on"
            last = next(reversed(held.runs.values()), None)
            for client in self._clients:
                replica = client.replicas[thread]
                assert replica.position == (truth.epochs[-1], truth.head)
                assert replica.state == truth.states[-1]
                assert "threadwire" not in truth.states[-1]
                told = replica.run and (replica.run.id, replica.run.status)
                assert told == (last and (last.id, last.status)), f"told of {told}, the last is {last}"
            for sent in self.commands.values():
                if sent.thread == thread:
                    self._check_command(sent)
            self._check_undone(truth, list(held.runs.values()))

    def _check_undone(self, truth: Truth, runs: list[RunRecord]) -> None:
        """Effects go by rollbacks alone; all else, which handlers do not write, is as a run began on it."""

        def rest(seq: int) -> dict[str, Json]:
            state = truth.states[seq]
            assert isinstance(state, dict)
            return {key: value for key, value in state.items() if key != "effects"}

        for seq in range(1, truth.head + 1):
            if _effects(truth, seq - 1) - _effects(truth, seq):
                bases = [run.base for run in runs if run.status == "cancelled" and run.base < seq]
                assert any(rest(seq) == rest(base) for base in bases), f"{seq} is no state of before"

    def _check_command(self, sent: _Sent) -> None:
        record = self.store.disk._threads[sent.thread].commands.get(sent.id)
        if sent.acknowledged:
            assert record is not None, f"lost: {sent.id}"
            assert sent.final is not None
            assert (record.status, record.seq) == (sent.final.status, sent.final.seq)
        times = self.store.truth[sent.thread].states[-1].get("effects", []).count(sent.id)
        applied = record is not None and record.status == "applied"
        assert times <= applied, f"{times} times: {sent.body}, {record}"
        if times < applied and self.has_effect(sent):
            # It had it, and was undone with its run.
            assert record is not None
            assert record.seq is not None
            effects = _effects(self.store.truth[sent.thread], record.seq)
            assert sent.id in effects, f"without effect: {sent.body}, {record}"

    def has_effect(self, command: _Sent) -> bool:
        """Whether a command has an effect that can be counted, if it is applied."""
        answers = command.body["type"] in ("resume", "add-tool-result")
        if (answers and not self._hosted) or command.id in self._without_effect:
            return False
        # Cancelled, it goes on for longer than it can write.
        return "stubborn effect" not in str(command.body)


def _effects(truth: Truth, seq: int) -> set[str]:
    state = truth.states[seq]
    assert isinstance(state, dict)
    return set(state.get("effects", ()))
