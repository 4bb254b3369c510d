"""A process that writes to a SQLite store until it is killed, and notes what was acknowledged.

    python -m tests.support.store_writer DATABASE NOTES [--appends N] [--PRAGMA VALUE ...]

A line is written to NOTES ("-" is stdout) after the store has said that something is durable:
`row THREAD SEQ EPOCH`, `command THREAD ID` or `snapshot THREAD SEQ`. After N appends to each thread
the process ends without closing the store. Its clock stands at 0, so that epochs grow by what the
store remembers alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from tests.support.stores import own, row, write
from threadwire.engine.store import Append, CommandChange, RunRecord, StoredSnapshot
from threadwire.stores import SQLiteStore, sqlite_schema

THREADS: Final = 8


async def main(database: str, notes: str, appends: int) -> None:
    descriptor = 1 if notes == "-" else os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(*words: object) -> None:
        os.write(descriptor, " ".join(map(str, words)).encode() + b"\n")

    async def fill(thread: str) -> None:
        owner = await own(store, thread, now=0.0)
        note("row", thread, owner.head, owner.epoch)
        for seq in range(owner.head + 1, owner.head + 1 + appends):
            commands: tuple[CommandChange, ...] = ()
            if seq % 5 == 0:
                assert await store.submit(thread, f"c{seq}", b"{}", limit=100, now=0.0) is not None
                note("command", thread, f"c{seq}")
                commands = (CommandChange(id=f"c{seq}", status="applied", seq=seq),)
            run = RunRecord(id="run", status="running", started_at=float(seq))
            entry = Append(
                thread=thread, epoch=owner.epoch, seq=seq, data=row(seq), commands=commands, run=run
            )
            assert await write(store, entry) == [None]
            note("row", thread, seq, owner.epoch)
            if seq % 25 == 0:
                snapshot = StoredSnapshot(seq, owner.epoch, b"state %d" % seq * 1000)
                await store.save_snapshot(thread, snapshot, keep_after=seq - 40)
                note("snapshot", thread, seq)

    async with SQLiteStore(database, clock=lambda: 0.0) as store:
        async with asyncio.TaskGroup() as tasks:
            for number in range(THREADS):
                tasks.create_task(fill(f"thread-{number}"))
        os._exit(0)


if __name__ == "__main__":
    options = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=True))
    appends = int(options.pop("--appends", 10**9))
    for name, value in options.items():
        sqlite_schema.WRITER_PRAGMAS[name.removeprefix("--")] = value
    asyncio.run(main(sys.argv[1], sys.argv[2], appends))
