"""What a token costs inside the server, before any socket: recorded, cut, encoded, committed, sent out.

    python -m benchmarks.engine [--quick] [--json FILE]

M is the number of messages in the state, L the length of the text that grows. "thread" is all the
engine does for a token that gets a frame of its own: the agent appends and yields to the loop, the
memory store commits, one subscriber is given the encoded frame; what the bare loop takes is shown
beside it and taken off.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.lending import Recipient, lent_run
from benchmarks.support import (
    TOKEN,
    Block,
    Figure,
    command_line,
    conversation,
    installed,
    interleave,
    median,
    ratio,
    timed,
)
from threadwire.core.codec import Encoding, UpdateEncoder, encode_log
from threadwire.core.document import Document
from threadwire.core.draft import Draft
from threadwire.engine.run import Run

LONG = 100_000
FLAT = 1.25
"""What a larger state or a longer text may cost more."""
WAYS = ("+=", "append_state_text")
"""The ways to append with assistant-stream."""
SIZES = [(10, 0), (10, LONG), (10_000, 0), (10_000, LONG)]
ENCODER = UpdateEncoder("thread-1", 1_700_000_000_000)
PATH = ("messages", -1, "content")


# the document alone


def document_block(messages: int, length: int, tokens: int, *, each_cut: int = 1) -> Block:
    """append_text, cut, the log row and the JSON frame made of it."""
    document = Document(conversation(messages, length))
    draft = Draft(document)

    def work() -> None:
        document.set(PATH, "x" * length)
        document.cut()
        for seq in range(tokens // each_cut):
            for _ in range(each_cut):
                draft.append_text(PATH, TOKEN)
            operations = document.cut()
            encode_log(operations)
            ENCODER.json(seq, operations)

    return timed(work, tokens)


def concatenating_block(length: int, tokens: int) -> Block:
    """As `document_block`, but written as `+=` on a leaf."""
    document = Document(conversation(10, length))
    draft = Draft(document)

    def work() -> None:
        document.set(PATH, "x" * length)
        document.cut()
        message = draft.root()["messages"][-1]
        for seq in range(tokens):
            message["content"] += TOKEN
            operations = document.cut()
            encode_log(operations)
            ENCODER.json(seq, operations)

    return timed(work, tokens)


# peers


def plain_block(messages: int, length: int, tokens: int) -> Block:
    """The least one can do: a dict of its own, and the operation by hand."""
    state = conversation(messages, length)

    def work() -> None:
        message = state["messages"][-1]
        message["content"] = "x" * length
        for _ in range(tokens):
            message["content"] += TOKEN
            json.dumps({"type": "append-text", "path": PATH, "value": TOKEN})

    return timed(work, tokens)


def assistant_stream_block(way: str, messages: int, length: int, tokens: int) -> Block:
    """assistant-stream's state, each token flushed, in its AssistantTransport form."""
    from assistant_stream.serialization import assistant_transport
    from assistant_stream.state_manager import StateManager

    chunks: list[Any] = []
    manager = StateManager(chunks.append, conversation(messages, length))
    translate = assistant_transport._Canonicalizer().translate
    path = ["messages", str(messages - 1), "content"]

    def work() -> None:
        manager.add_operations([{"type": "set", "path": path, "value": "x" * length}])
        manager.flush()
        chunks.clear()
        for _ in range(tokens):
            if way == "+=":
                manager.state["messages"][-1]["content"] += TOKEN
            else:
                manager.append_text(path, TOKEN)
            manager.flush()
            for frame in translate(chunks.pop()):
                f"data: {json.dumps(frame, cls=assistant_transport.StateProxyJSONEncoder)}\n\n".encode()

    return timed(work, tokens)


def assistant_stream_run_block(way: str, messages: int, length: int, tokens: int) -> Block:
    """A whole run of assistant-stream's up to its response's bytes; the loop turns after each token."""
    from assistant_stream import create_run
    from assistant_stream.serialization.assistant_transport import AssistantTransportEncoder

    path = ("messages", messages - 1, "content")

    async def write(controller: Any) -> None:
        for _ in range(tokens):
            if way == "+=":
                controller.state["messages"][-1]["content"] += TOKEN
            else:
                controller.append_state_text(path, TOKEN)
            await asyncio.sleep(0)

    async def block() -> float:
        made = create_run(write, state=conversation(messages, length))
        begun = time.process_time()
        async for line in AssistantTransportEncoder().encode_stream(made):
            line.encode()
        return (time.process_time() - begun) / tokens * 1e6

    return block


def pycrdt_block(messages: int, length: int, tokens: int) -> Block:
    """A Y document with a text in each message, each token a transaction whose update is taken."""
    from pycrdt import Array, Doc, Map, Text

    doc: Any = Doc()
    state = conversation(messages, length)
    doc["messages"] = Array(
        [Map({**message, "content": Text(message["content"])}) for message in state["messages"]]
    )
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))

    def work() -> None:
        text = doc["messages"][messages - 1]["content"]
        text.clear()
        text += "x" * length
        updates.clear()
        for _ in range(tokens):
            text += TOKEN

    return timed(work, tokens)


# the whole thread


def thread_block(run: Run, recipient: Recipient, length: int, tokens: int) -> Block:
    """A frame a token: the agent lets the loop turn after each."""

    async def block() -> float:
        run.state["messages"][-1]["content"] = "x" * length
        await run.flush()
        before = recipient.messages
        begun = time.process_time()
        for _ in range(tokens):
            run.append_text(PATH, TOKEN)
            await asyncio.sleep(0)
        spent = time.process_time() - begun
        await run.flush()
        assert recipient.messages == before + tokens, "not a frame a token"
        return spent / tokens * 1e6

    return block


def loop_block(turns: int) -> Block:
    async def block() -> float:
        begun = time.process_time()
        for _ in range(turns):
            await asyncio.sleep(0)
        return (time.process_time() - begun) / turns * 1e6

    return block


# figures


def size_name(messages: int, length: int) -> str:
    return f"M = {messages:,}, L = {length // 1000} k" if length else f"M = {messages:,}, L = 0"


def per_token(name: str, costs: list[float], **bound: float) -> Figure:
    return Figure(name=name, value=median(costs), unit="µs/token", **bound)


def times(name: str, value: float, **bound: float) -> Figure:
    return Figure(name=name, value=value, unit="×", **bound)


async def document_figures(quick: bool) -> list[Figure]:
    tokens = 2000 if quick else 10_000
    names = [size_name(*size) for size in SIZES]
    blocks = {name: document_block(*size, tokens) for name, size in zip(names, SIZES, strict=True)}
    blocks["100 a cut"] = document_block(10, 0, tokens, each_cut=100)
    blocks["+="] = concatenating_block(LONG, tokens // 10)
    blocks["plain"] = plain_block(10, 0, tokens)
    costs = await interleave(blocks, 3 if quick else 9)
    base = costs[names[0]]
    return [
        *(per_token(f"document: {name}", costs[name], at_most=2) for name in names),
        *(
            times(f"document: {name} / {names[0]}", ratio(costs[name], base), at_most=FLAT)
            for name in names[1:]
        ),
        per_token("document: 100 tokens a cut", costs["100 a cut"], at_most=1),
        per_token("document: += at L = 100 k", costs["+="]),
        per_token("plain dict, json.dumps of the operation", costs["plain"]),
    ]


async def peer_figures(quick: bool) -> list[Figure]:
    tokens = 500 if quick else 2000
    figures = []
    for size in (SIZES[0], SIZES[-1]):
        blocks = {"document": document_block(*size, tokens)}
        if installed("assistant_stream"):
            for way in WAYS:
                blocks[f"assistant-stream {way}"] = assistant_stream_block(way, *size, tokens)
        if installed("pycrdt"):
            blocks["pycrdt"] = pycrdt_block(*size, tokens)
        costs = await interleave(blocks, 3 if quick else 7)
        document = costs.pop("document")
        for name, each in costs.items():
            figures.append(per_token(f"{name}: {size_name(*size)}", each))
            figures.append(times(f"document / {name}: {size_name(*size)}", ratio(document, each)))
    return figures


async def thread_figures(quick: bool) -> list[Figure]:
    # So many that the snapshots which are stored now and then are counted too.
    tokens = 6000
    encodings: tuple[Encoding, ...] = ("json", "msgpack")
    async with AsyncExitStack() as stack:
        blocks = {"loop": loop_block(tokens)}
        for encoding in encodings:
            for size in SIZES:
                thread, run = await stack.enter_async_context(lent_run(conversation(*size)))
                recipient = Recipient(encoding)
                await thread.subscribe(recipient)
                name = f"thread, {encoding}: {size_name(*size)}"
                blocks[name] = thread_block(run, recipient, size[1], tokens)
        peers = [f"assistant-stream run, {way}" for way in WAYS if installed("assistant_stream")]
        for name, way in zip(peers, WAYS, strict=False):
            blocks[name] = assistant_stream_run_block(way, *SIZES[0], tokens)
        costs = await interleave(blocks, 2 if quick else 9)
    loop = costs.pop("loop")
    over = {
        name: [cost - turn for cost, turn in zip(each, loop, strict=True)] for name, each in costs.items()
    }
    figures = [per_token("bare loop, sleep(0)", loop)]
    figures += [
        per_token(f"{name}, over the loop", each, **({} if name in peers else {"at_most": 4}))
        for name, each in over.items()
    ]
    for encoding in encodings:
        base = f"thread, {encoding}: {size_name(*SIZES[0])}"
        for size in SIZES[1:]:
            name = f"thread, {encoding}: {size_name(*size)}"
            figures.append(
                times(f"{name} / {size_name(*SIZES[0])}", ratio(over[name], over[base]), at_most=FLAT)
            )
        figures += [times(f"thread, {encoding} / {peer}", ratio(over[base], over[peer])) for peer in peers]
    return figures


async def measure(quick: bool) -> list[Figure]:
    return [
        *await document_figures(quick),
        *await peer_figures(quick),
        *await thread_figures(quick),
    ]


if __name__ == "__main__":
    command_line("engine", __doc__, measure)
