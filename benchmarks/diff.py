"""What it takes to find the change between two states, when an agent yields whole ones.

    python -m benchmarks.diff [--quick] [--json FILE]

1,000 messages, of which the last one's text has grown by a token: in a state that shares nothing
with the one before, as when it came out of a decoder, and in one that shares all it can.
"""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.support import (
    TOKEN,
    Block,
    Figure,
    command_line,
    conversation,
    installed,
    interleave,
    median,
    timed,
)
from threadwire.core.diff import diff
from threadwire.core.operations import AppendText, apply

GROWTH = AppendText(("messages", 999, "content"), TOKEN)


def diff_block(old: Any, new: Any, times: int) -> Block:
    assert diff(old, new) == [GROWTH]

    def work() -> None:
        for _ in range(times):
            diff(old, new)

    return timed(work, times)


def jsonpatch_block(old: Any, new: Any) -> Block:
    from jsonpatch import make_patch

    return timed(lambda: make_patch(old, new), 1)


async def measure(quick: bool) -> list[Figure]:
    old = conversation(1000, 500)
    shared = apply(old, [GROWTH])
    copied = msgspec.msgpack.decode(msgspec.msgpack.encode(shared))
    times = 20 if quick else 100
    blocks = {
        "nothing shared": diff_block(old, copied, times),
        "shared": diff_block(old, shared, times),
    }
    if installed("jsonpatch"):
        blocks["jsonpatch, nothing shared"] = jsonpatch_block(old, copied)
    costs = await interleave(blocks, 5 if quick else 21)
    bounds = {"nothing shared": 400.0, "shared": 40.0}
    return [
        Figure(name=name, value=median(each), unit="µs", at_most=bounds.get(name))
        for name, each in costs.items()
    ]


if __name__ == "__main__":
    command_line("diff", __doc__, measure)
