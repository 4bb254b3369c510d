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
from typing import Any
from unittest.mock import patch

from tests.support import simulation, virtual_time
from tests.support.faulty_store import at_once
from tests.support.shared_store import Hub, Links
from tests.support.wire import Wire
from threadwire.endpoints.websocket import WebSocketEndpoint
from threadwire.engine import nodes, subscriber
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads


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
        with patch.object(subscriber, "_MIN_BACKLOG_BYTES", backlog), patch.object(nodes, "_PAGE", page):
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
            self.store.cut = False
            self.threads.draining = True
            self.endpoint.goodbye("the server stops")
            await self.threads.drain(drain_s)
        for wire in self.wires:
            wire.hang_up()
        while self.connections:
            await asyncio.wait(self.connections)
        await self._stack.aclose()
        await self.store.end()

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
        self._browsers = []  # what they are shown is checked against one server
        self._nodes: list[_Node] = []
        self._lives = 0

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

    def serve(self, wire: Wire) -> None:
        self.dice.choice(self._nodes).serve(wire)

    async def play(self) -> None:
        dice = self.dice
        for _ in range(dice.randrange(2, 4)):
            await self._start_node()
        self.store.links = self._bad
        for _ in range(dice.randrange(10, 70)):
            if dice.random() < 0.12:
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
        await asyncio.sleep(20)
        wait = {each for client in self._clients for each in client.waits_in_vain()}
        if wait:
            await asyncio.sleep(20)
            left = [each[1:] for client in self._clients for each in client.waits_in_vain() if each in wait]
            assert not left, f"settled without a word: {left}"

    async def _start_node(self) -> None:
        node = _Node(self)
        await node.start()
        self._nodes.append(node)

    async def _end_node(self, node: _Node, *, crashes: bool) -> None:
        self._nodes.remove(node)
        await node.end(crashes=crashes, drain_s=self.dice.choice((0, 0.5, 5)))

    async def _break(self) -> None:
        """Something happens to a node."""
        dice = self.dice
        node = dice.choice(self._nodes)
        match dice.randrange(6):
            case 0 | 1:
                await self._start_node()  # before it, so that there is always one
                await self._end_node(node, crashes=True)
            case 2:
                await self._start_node()
                await self._end_node(node, crashes=False)
            case 3:
                node.store.cut = not node.store.cut
            case 4 | 5:
                if node.store.paused:
                    node.store.resume()
                else:
                    node.store.pause()
