"""What a token takes to be durable and to reach a client of another node, on one to four nodes.

    python -m benchmarks.nodes [--quick] [--json FILE]

Two hundred threads stream 25 tokens a second each; every thread is followed on the node after its owner's.
Times are those of the clock, in ms, from the moment a token is written: until its append is durable (the
owner publishes it then), and until a subscriber at the following node has it. Beside that: how long after a
node was killed another one has taken its thread over, with a lease of one second.

Takes a PostgreSQL of its own, as the tests do, or the one at THREADWIRE_TEST_POSTGRESQL. Its own shares the
machine with the nodes, and syncs each commit to whatever disk this machine has.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any, Final

from benchmarks.support import Figure, command_line, run
from tests.support.postgresql import Server, new_database
from threadwire import Run, agent
from threadwire.core.codec import Encoding
from threadwire.engine.followed import Followed
from threadwire.engine.message import Message, SnapshotMessage, UpdateMessage
from threadwire.engine.settings import Settings
from threadwire.engine.subscriber import Subscriber
from threadwire.engine.threads import Threads
from threadwire.stores.postgresql import PostgreSQLStore

THREADS: Final = 200
EVERY_S: Final = 0.04
SETTLE_S: Final = 2.0


@agent
async def stream(run: Run) -> None:
    """Writes the time, 25 times a second, for as many seconds as it is told."""
    run.state["text"] = ""
    loop = asyncio.get_running_loop()
    (command,) = run.commands
    seconds = float(command.message.text)  # type: ignore[attr-defined]
    begun = loop.time()
    for number in range(int(seconds / EVERY_S)):
        await asyncio.sleep(begun + (number + 1) * EVERY_S - loop.time())
        run.append_text(("text",), f"{time.monotonic():.6f} ")


class Reader:
    """A subscriber that notes how old each token is when it comes."""

    encoding: Encoding = "msgpack"
    ready = True

    def __init__(self) -> None:
        self.ages_ms: list[float] = []
        self.ended = asyncio.Event()

    def send(self, message: Message) -> None:
        if isinstance(message, UpdateMessage):
            now = time.monotonic()
            for operation in message.operations():
                value = getattr(operation, "value", None)
                if isinstance(value, str) and value:
                    self.ages_ms += [(now - float(sent)) * 1000 for sent in value.split()]
        elif not isinstance(message, SnapshotMessage):
            status = getattr(getattr(message.frame("json"), "run", None), "status", None)
            if status in ("completed", "failed"):
                self.ended.set()

    def offer(self, message: Message) -> bool:
        self.send(message)
        return True

    def lag(self, subscriber: Subscriber) -> None:
        asyncio.get_running_loop().call_soon(subscriber.drain)

    def lost(self, subscriber: Subscriber) -> None:
        raise RuntimeError("the thread was lost")


def node(pipe: Connection, url: str, number: int, count: int, seconds: float, lease_s: float) -> None:
    """A process: owns its part of the threads, follows that of the node before it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(_node(pipe, url, number, count, seconds, lease_s))


async def _node(pipe: Connection, url: str, number: int, count: int, seconds: float, lease_s: float) -> None:
    async def agreed() -> None:
        """Waits until all are here."""
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)

    own = [f"t{index}" for index in range(THREADS) if index % count == number]
    followed = [f"t{index}" for index in range(THREADS) if index % count == (number - 1) % count]
    async with (
        PostgreSQLStore(url, lease_s=lease_s) as store,
        Threads(agents={"stream": stream}, store=store, settings=Settings()) as threads,
    ):
        here, there = [Reader() for _ in own], [Reader() for _ in followed]
        for id, reader in zip(own, here, strict=True):
            await (await threads.get(id)).subscribe(reader)
        await agreed()
        for id, reader in zip(followed, there, strict=True):
            thread = await threads.get(id)
            assert isinstance(thread, Followed) == (count > 1)
            await thread.subscribe(reader)
        await agreed()
        for id in own:
            message = {"role": "user", "parts": [{"type": "text", "text": str(seconds)}]}
            await (await threads.get(id)).submit(
                f"c-{id}",
                {"type": "add-message", "message": message},
                strategy=None,
                watcher=lambda state: None,
            )
        for reader in [*here, *there]:
            await reader.ended.wait()
        cpu_s = time.process_time()
        pipe.send(
            (
                [age for reader in here for age in reader.ages_ms],
                [age for reader in there for age in reader.ages_ms],
                cpu_s,
            )
        )
        await asyncio.to_thread(pipe.recv)


class Nodes:
    """Processes that are led through their work together."""

    def __init__(self, url: str, count: int, seconds: float, lease_s: float = 5.0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=node, args=(theirs, url, number, count, seconds, lease_s))
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    async def step(self) -> list[Any]:
        """What each says next; then all go on."""
        said = await asyncio.gather(*[asyncio.to_thread(pipe.recv) for pipe in self.pipes])
        self.go_on()
        return said

    def go_on(self) -> None:
        for pipe in self.pipes:
            with contextlib.suppress(BrokenPipeError):
                pipe.send("go on")

    def end(self) -> None:
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.kill()


async def latencies(url: str, count: int, seconds: float) -> tuple[list[float], list[float], float]:
    """Ages in ms at the owners and at the followers, sorted; and the CPU seconds of a second, all nodes."""
    nodes = Nodes(url, count, seconds)
    try:
        for _ in range(2):
            await nodes.step()
        results = await nodes.step()
    finally:
        nodes.end()
    here = sorted(age for own, _, _ in results for age in own)
    there = sorted(age for _, followed, _ in results for age in followed)
    expected = THREADS * int(seconds / EVERY_S)
    assert len(here) == len(there) == expected, f"{len(here)}, {len(there)} of {expected} tokens have come"
    return here, there, sum(cpu for _, _, cpu in results) / seconds


async def takeover(url: str) -> float:
    """Seconds from the end of an owner to the end of its run, as a follower sees it."""
    nodes = Nodes(url, 2, 60.0, lease_s=1.0)
    try:
        await nodes.step()
        await nodes.step()
        async with (
            PostgreSQLStore(url, lease_s=1.0) as store,
            Threads(agents={"stream": stream}, store=store, settings=Settings()) as threads,
        ):
            reader = Reader()
            await (await threads.get("t0")).subscribe(reader)
            while not reader.ages_ms:
                await asyncio.sleep(0.05)
            begun = time.monotonic()
            os.kill(nodes.processes[0].pid or 0, signal.SIGKILL)
            await reader.ended.wait()
            return time.monotonic() - begun
    finally:
        for process in nodes.processes:
            process.kill()
        nodes.end()


def _quantile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


async def measure(quick: bool) -> list[Figure]:
    seconds = 3.0 if quick else 10.0
    figures = []
    given = os.environ.get("THREADWIRE_TEST_POSTGRESQL")
    server = None if given else await asyncio.to_thread(Server, "fsync=on")
    base = given or (server.url if server is not None else "")
    try:
        for count in (1, 2, 4) if quick else (1, 2, 3, 4):
            url = await asyncio.to_thread(new_database, base)
            here, there, cpu = await latencies(url, count, seconds)
            on = f"{count} node{'s' if count > 1 else ''}: "
            p50, follower_p50 = _quantile(here, 0.5), _quantile(there, 0.5)
            figures += [
                Figure(name=f"{on}append p50", value=p50, unit="ms"),
                Figure(name=f"{on}append p99", value=_quantile(here, 0.99), unit="ms"),
                Figure(name=f"{on}follower p50", value=follower_p50, unit="ms"),
                Figure(name=f"{on}follower p99", value=_quantile(there, 0.99), unit="ms"),
                Figure(name=f"{on}CPU of all nodes", value=cpu, unit="s/s"),
            ]
            if count > 1:
                figures.append(
                    Figure(name=f"{on}follower p50 / append p50", value=follower_p50 / p50, at_most=2)
                )
        url = await asyncio.to_thread(new_database, base)
        figures.append(Figure(name="takeover, lease of 1 s", value=await takeover(url), unit="s", at_most=2))
    finally:
        if server is not None:
            await asyncio.to_thread(server.remove)
    return figures


if __name__ == "__main__":
    command_line("nodes", __doc__, measure)
