"""Several servers on one simulated store and bus, on a virtual clock, driven at random by one seed.

Clients, agents and checks are those of `simulation`; what is added are nodes that crash, hang, are cut
off, stop in order and come anew, ways that lose, double, delay and reorder what is sent over them, and a
store that fails for all.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack, suppress
from typing import Any, Final
from unittest.mock import patch

from tests.support import simulation, virtual_time
from tests.support.browsers import Browser
from tests.support.faulty_store import at_once
from tests.support.shared_store import Fate, Hub, Links
from tests.support.simulation import THREADS
from tests.support.stock_client import Exchange
from tests.support.wire import Wire
from threadwire.endpoints import assistant
from threadwire.endpoints.http import http_application
from threadwire.endpoints.websocket import WebSocketEndpoint
from threadwire.engine import feed, nodes, subscriber
from threadwire.engine.anonymous import AnonymousThreads
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads

TROUBLES: Final = ("crash", "crash", "stop", "cut", "pause", "pause", "sleep", "stall", "burst", "burst")
WEATHERS: Final = (
    TROUBLES,
    TROUBLES,
    ("stall",),
    ("burst",),
    ("burst", "stall", "sleep"),
    ("crash", "stop"),
    ("cut", "pause"),
)
"""What may happen to nodes, with one seed or another: some concentrate on one kind."""


def simulate(seed: int) -> None:
    """Plays one seed.

    Raises:
        AssertionError: a promise was broken; a note on it names the seed.
    """
    complaints = simulation._Complaints()
    logger = logging.getLogger("threadwire")
    logger.addHandler(complaints)
    propagates, logger.propagate = logger.propagate, False
    backlog = 200 if seed % 3 == 0 else subscriber._MIN_BACKLOG_BYTES
    page = 3 if seed % 4 == 0 else nodes._PAGE
    try:
        with (
            patch.object(subscriber, "_MIN_BACKLOG_BYTES", backlog),
            patch.object(feed, "_MIN_BACKLOG_BYTES", backlog),
            patch.object(nodes, "_PAGE", page),
        ):
            virtual_time.run(_Nodes(seed).play())
        assert not complaints.texts, complaints.texts[0]
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}", *complaints.texts]))
        raise
    finally:
        logger.removeHandler(complaints)
        logger.propagate = propagates


class _Node:
    """A server, from its start to its end."""

    def __init__(self, world: _Nodes) -> None:
        self.store = world.store.node()
        self.threads = Threads(agents={"ledger": world._agent}, store=self.store, settings=world._settings)
        self.endpoint = WebSocketEndpoint(self.threads)
        self.wires: set[Wire] = set()
        self.connections: set[asyncio.Task[None]] = set()
        routes = assistant.routes(self.threads, AnonymousThreads(self.threads))
        self._http = http_application(routes, settings=world._settings)
        self._requests: dict[asyncio.Task[Any], Exchange] = {}
        self._failures = world.failures
        self._stack = AsyncExitStack()
        self._beat: asyncio.Future[None] | None = None

    async def start(self) -> None:
        await self._stack.enter_async_context(self.store)
        await self._stack.enter_async_context(self.threads)
        self._beat = asyncio.ensure_future(self.endpoint.beat())

    async def end(self, *, crashes: bool, drain_s: float) -> None:
        assert self._beat is not None
        self._beat.cancel()
        if crashes:
            self.store.crash()
            self.threads.draining = True
        else:
            self.store.resume()
            self.store.flow()
            self.store.fates.clear()
            self.store.cut = False
            self.threads.draining = True
            self.endpoint.goodbye("the server stops")
            await self.threads.drain(drain_s)
        for wire in self.wires:
            wire.hang_up()
        for task, exchange in self._requests.items():
            exchange.hang_up()
            if crashes:
                task.cancel()
        while self._requests:
            await asyncio.wait(self._requests)
        while self.connections:
            await asyncio.wait(self.connections)
        await self._stack.aclose()
        await self.store.end()

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """An HTTP request of a browser."""
        task = asyncio.current_task()
        assert task is not None
        exchange = self._requests[task] = receive.__self__
        began = self.store.hub.now()
        try:
            await self._http(scope, receive, send)
            # It may have waited for what others have tried for a while.
            reached = self.store.failed_at < began - self.threads.settings.store_patience_s - 5
            ends = self.store.gone or self.threads.draining or exchange._gone.is_set()
            if exchange.status == 503 and reached and not ends:
                self._failures.append(f"{exchange.raw!r}, though the store was there")
        finally:
            del self._requests[task]

    def serve(self, wire: Wire) -> None:
        self.wires.add(wire)
        task = asyncio.ensure_future(self._serve(wire))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def _serve(self, wire: Wire) -> None:
        with suppress(OSError):  # gone before it was accepted
            await self.endpoint(wire.scope, wire.receive, wire.send)
        wire.hang_up()
        self.wires.discard(wire)


class _All:
    """The threads of all nodes."""

    def __init__(self, nodes: list[_Node]) -> None:
        self._nodes = nodes

    def loaded(self) -> list[Thread]:
        return [thread for node in self._nodes for thread in node.threads.loaded()]


class _Nodes(simulation._World):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        dice = self.dice
        delays_s = dice.choice(((0.0,), (0.0, 0.001), (0.0, 0.002, 0.02), (0.001, 0.3), (0.0, 0.0, 1.5)))
        self._bad = Links(
            refused=dice.choice((0, 0, 0.02, 0.1)),
            unknown=dice.choice((0, 0, 0.02, 0.1)),
            late=dice.choice((0, 0, 0.02)),
            lost=dice.choice((0, 0, 0.1, 1)),
            twice=dice.choice((0, 0, 0.3)),
            delays_s=delays_s,
        )
        self._good = Links(delays_s=tuple(min(each, 0.02) for each in delays_s))
        self.store: Any = Hub(random.Random(seed + 1), self._good, lease_s=dice.choice((1.0, 2.0, 5.0)))
        self._browsers = [
            Browser(f"browser {number}", self.store, self.failures) for number in range(dice.randrange(3))
        ]
        self._nodes: list[_Node] = []
        self._troubles = dice.choice(WEATHERS)
        self._often = 0.12 if self._troubles is TROUBLES else 0.25
        self._aim = dice.choice((0, 0.5, 1))

    @property
    def _threads(self) -> Any:
        return _All(self._nodes)

    @_threads.setter
    def _threads(self, value: object) -> None:
        raise AssertionError("there are several")

    @property
    def _endpoint(self) -> Any:
        return self.dice.choice(self._nodes).endpoint

    @_endpoint.setter
    def _endpoint(self, value: object) -> None:
        raise AssertionError("there are several")

    @property
    def _http(self) -> Any:
        return self.dice.choice(self._nodes).answer

    @_http.setter
    def _http(self, value: object) -> None:
        assert value is None, "there are several"

    def serve(self, wire: Wire) -> None:
        self.dice.choice(self._nodes).serve(wire)

    async def play(self) -> None:
        dice = self.dice
        for _ in range(dice.randrange(2, 4)):
            await self._start_node()
        self.store.links = self._bad
        for _ in range(dice.randrange(10, 70)):
            if dice.random() < self._often:
                await self._break()
            else:
                self._act()
            await self._wait()
            assert not self.failures, self.failures[0]
        self.store.out = False
        self.store.links = self._good
        for node in self._nodes:
            node.store.cut = False
            node.store.resume()
            node.store.flow()
            node.store.fates.clear()
        await self._be_patient()
        for _ in range(20):
            await self._come_to_rest()
            connected = all(client.wire and not client.wire.gone for client in self._clients)
            unfinished = at_once(
                self.store.disk.unfinished()
            )  # by a node that has yet to take it up, or none
            if connected and not unfinished:
                break
            for thread in unfinished:
                self._clients[0].say({"type": "cancel", "thread": thread})
        assert not self.failures, self.failures[0]
        self._check()
        for node in list(self._nodes):
            await self._end_node(node, crashes=False)
        assert not self.failures, self.failures[0]

    async def _be_patient(self) -> None:
        """Clients that stay are told what becomes of what they sent, though they don't ask."""
        for client in self._clients:
            if client.wire is not None:
                client.wire.speed_up()
        await asyncio.sleep(10)
        wait = {each for client in self._clients for each in client.waits_in_vain()}
        if wait:
            await asyncio.sleep(60)  # after a long outage the server looks no oftener
            left = [each[1:] for client in self._clients for each in client.waits_in_vain() if each in wait]
            assert not left, f"settled without a word: {left}"

    async def _start_node(self) -> None:
        node = _Node(self)
        await node.start()
        self._nodes.append(node)

    async def _end_node(self, node: _Node, *, crashes: bool) -> None:
        self._nodes.remove(node)
        await node.end(crashes=crashes, drain_s=self.dice.choice((0, 0.5, 5)))

    # troubles

    async def _break(self) -> None:
        """Trouble comes to a node: with some seeds to one that has just been given work."""
        dice = self.dice
        node = dice.choice(self._nodes)
        client = dice.choice(self._clients)
        aims = dice.random() < self._aim
        if aims:
            client.say(*[self._command(THREADS[0]).frame() for _ in range(dice.choice((1, 1, 2)))])
            await self._wait_a_bit()
            owners = [each for each in self._nodes if each.store.node == self.store.owner(THREADS[0])]
            if owners and dice.random() < 0.7:
                node = owners[0]
        match dice.choice(self._troubles):
            case "crash":
                await self._start_node()  # before it, so that there is always one
                await self._end_node(node, crashes=True)
            case "stop":
                await self._start_node()
                await self._end_node(node, crashes=False)
            case "cut":
                node.store.cut = not node.store.cut
            case "pause":
                if node.store.paused:
                    node.store.resume()
                else:
                    node.store.pause()
            case "sleep":
                node.store.pause()
                await self._go_on_for(self.store.lease_s * dice.choice((0.5, 1.2, 2)))
                node.store.resume()
                self._come_anew()
            case "stall":
                node.store.stall(dice.choice((0, 0.1, 0.5, 3)))
                await self._go_on_for(dice.choice((0, 0.1, self._settings.store_patience_s + 1)))
                node.store.flow()
            case "burst":
                fates: tuple[Fate, ...] = ("sound", "sound", "late", "late", "unknown", "refused")
                node.store.fates.extend(dice.choices(fates, k=dice.randrange(2, 12)))
        if aims and dice.random() < 0.5:
            client.say(self._cancel(client, THREADS[0]))  # as one does who sees nothing happen

    async def _wait_a_bit(self) -> None:
        for _ in range(self.dice.choice((1, 3, 10, 30))):
            await asyncio.sleep(0)
        await asyncio.sleep(self.dice.choice((0, 0, 0.001, 0.02)))

    async def _go_on_for(self, seconds: float) -> None:
        """A trouble lasts, and clients go on meanwhile."""
        for _ in range(self.dice.randrange(4)):
            self._act()
            await self._wait_a_bit()
        await asyncio.sleep(seconds)

    def _come_anew(self) -> None:
        """Clients that have seen what came meanwhile come to whichever node."""
        for client in self._clients:
            if self.dice.random() < 0.5:
                client.drop()
                client.say(*[client.open(thread) for thread in THREADS])
