"""What a client that joins costs: the whole state, encoded once for all who ask at the same place.

    python -m benchmarks.snapshot [--quick] [--json FILE]

A thread of 1,000 messages (0.6 MB). The copy that each socket makes comes on top: "copy" is one of it.
"""

from __future__ import annotations

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
    interleave,
    median,
    ratio,
    timed,
)
from threadwire.core.codec import Encoding, encode_value
from threadwire.engine.run import Run
from threadwire.engine.thread import Thread

MESSAGES = 1000
PATH = ("messages", -1, "content")


def encode_block(state: Any, encoding: Encoding) -> Block:
    return timed(lambda: encode_value(state, encoding), 1)


def join_block(thread: Thread, run: Run, encoding: Encoding, count: int) -> Block:
    """µs a client, when so many join after a token."""

    async def block() -> float:
        run.append_text(PATH, TOKEN)
        await run.flush()
        recipients = [Recipient(encoding) for _ in range(count)]
        begun = time.process_time()
        subscribers = [await thread.subscribe(recipient) for recipient in recipients]
        spent = time.process_time() - begun
        for subscriber, recipient in zip(subscribers, recipients, strict=True):
            assert recipient.bytes > 500 * MESSAGES
            thread.unsubscribe(subscriber)
        return spent / count * 1e6

    return block


async def measure(quick: bool) -> list[Figure]:
    encodings: tuple[Encoding, ...] = ("json", "msgpack")
    joiners = 20 if quick else 100
    state = conversation(MESSAGES)
    encoded = encode_value(state, "json")
    async with AsyncExitStack() as stack:
        thread, run = await stack.enter_async_context(lent_run(state))
        blocks: dict[str, Block] = {
            "encode, standard json": timed(lambda: json.dumps(state).encode(), 1),
            "copy": timed(lambda: bytearray(encoded), 1),
        }
        for encoding in encodings:
            blocks[f"encode, {encoding}"] = encode_block(state, encoding)
            blocks[f"one joins, {encoding}"] = join_block(thread, run, encoding, 1)
            blocks[f"{joiners} join, {encoding}"] = join_block(thread, run, encoding, joiners)
        costs = await interleave(blocks, 5 if quick else 15)
    units = {name: "µs/client" if "join" in name else "µs" for name in blocks}
    figures = [Figure(name=name, value=median(each), unit=units[name]) for name, each in costs.items()]
    for encoding in encodings:
        many, one = costs[f"{joiners} join, {encoding}"], costs[f"encode, {encoding}"]
        figures.append(
            Figure(
                name=f"a client of {joiners} that join / encode, {encoding}",
                value=ratio(many, one),
                unit="×",
                at_most=1 / 3.5,
            )
        )
    return figures


if __name__ == "__main__":
    command_line("snapshot", __doc__, measure)
