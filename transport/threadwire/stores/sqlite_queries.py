"""The Store's reads and writes as SQL, each inside a transaction that its caller begins and ends.

A write that is refused has written nothing and answers so with a value, so that the other writes
of its transaction stand. Connections, threads and commits are the business of others.
"""

from __future__ import annotations

from sqlite3 import Connection
from typing import Any, Final, Literal

import msgspec

from ..core.codec import encode_log
from ..core.errors import ErrorInfo, WriteConflict
from ..core.frames import Strategy
from ..core.operations import Json
from ..engine.store import (
    Append,
    Archived,
    CommandRecord,
    LogRow,
    LogSlice,
    Owned,
    RunRecord,
    StoredSnapshot,
    Submission,
    ThreadName,
    ThreadPage,
    ThreadRecord,
)
from .cursors import write_cursor
from .epochs import next_epoch
from .rows import LARGEST, command_record, conflict, cut_limit, cut_seq, run_record

_TRIM_ROWS: Final = 200
"""Rows dropped at once."""

_RECORD: Final = "t.id, t.agent, m.title, t.archived, m.created_at, t.updated_at, m.custom"
_COMMAND: Final = "id, n, body, status, starts, seq, error, context, strategy"
_RUN: Final = "id, status, started_at, ended_at, error, base, starts, context"
# Spelled as in the partial indexes, which are used only then.
_OPEN_COMMAND: Final = "status IN ('queued', 'running')"
_OPEN_RUN: Final = "status IN ('queued', 'running', 'waiting')"


# owner


def take_epoch(db: Connection, now: float) -> int:
    """A new epoch, noted so that it is never taken again."""
    (last,) = db.execute("SELECT epoch FROM store").fetchone()
    epoch = next_epoch(last, now)
    db.execute("UPDATE store SET epoch = ?", (epoch,))
    return epoch


def touch(db: Connection) -> None:
    """A write that means nothing. (One that changes nothing would not get as far as the disk.)"""
    db.execute("UPDATE store SET flag = 1 - flag")


def acquire(
    db: Connection, thread: str, *, agent: str | None, now: float, since: int
) -> Owned | int | ThreadName | None:
    """Takes a thread whose epoch is below `since`, the first of this owner's epochs.

    A thread made by this call is returned whole; of another one the epoch, for `load` to read the
    rest, which may be large and is better kept out of the transactions of all threads. Of another name
    of a thread, which it is.
    """
    row = db.execute("SELECT epoch, head FROM thread WHERE id = ?", (thread,)).fetchone()
    if row is None:
        named = find_name(db, thread)
        if named is not None:
            return named
        if agent is None:
            return None
        record = ThreadRecord(id=thread, agent=agent, created_at=now, updated_at=now)
        epoch = _insert(db, record, now)
        return Owned(record=record, epoch=epoch, head=0, snapshot=None, tail=[], commands=[], run=None)
    epoch, head = row
    if epoch < since:
        epoch = take_epoch(db, now)
        db.execute("UPDATE thread SET epoch = ?, head = ? WHERE id = ?", (epoch, head + 1, thread))
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (thread, head + 1, epoch, encode_log(())))
    return epoch


def load(db: Connection, thread: str, epoch: int) -> Owned | None:
    """All there is of a thread, None where it is gone or under another epoch."""
    row = db.execute(
        f"SELECT t.head, {_RECORD} FROM thread t JOIN thread_meta m USING (id) WHERE id = ? AND epoch = ?",
        (thread, epoch),
    ).fetchone()
    if row is None:
        return None
    snapshot = snapshot_before(db, thread, row[0])
    commands = db.execute(
        f"SELECT {_COMMAND} FROM inbox WHERE thread = ? AND {_OPEN_COMMAND} ORDER BY n", (thread,)
    )
    return Owned(
        record=_record(row[1:]),
        epoch=epoch,
        head=row[0],
        snapshot=snapshot,
        tail=_rows(db, thread, 0 if snapshot is None else snapshot.seq, LARGEST),
        commands=[command_record(row) for row in commands],
        run=next(iter(runs(db, thread, 1)), None),
    )


def append(db: Connection, entry: Append) -> WriteConflict | None:
    thread, epoch, seq = entry.thread, entry.epoch, entry.seq
    if entry.data is None:
        if _position(db, thread) != (epoch, seq):
            return conflict(entry)
    else:
        advanced = db.execute(
            "UPDATE thread SET head = ?, updated_at = ? WHERE id = ? AND epoch = ? AND head = ?",
            (seq, entry.now, thread, epoch, seq - 1),
        )
        if advanced.rowcount == 0:
            written_before = _position(db, thread) == (epoch, seq)
            return None if written_before else conflict(entry)
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (thread, seq, epoch, entry.data))
    for change in entry.commands:
        db.execute(
            "UPDATE inbox SET status = :status, starts = coalesce(:starts, starts), seq = :seq,"
            " error = :error, context = CASE WHEN :open THEN context END"
            " WHERE thread = :thread AND id = :id",
            {
                "status": change.status,
                "open": change.status in ("queued", "running"),
                "starts": change.starts,
                "seq": change.seq,
                "error": _pack(change.error),
                "thread": thread,
                "id": change.id,
            },
        )
    run = entry.run
    if run is not None:
        db.execute(
            f"INSERT INTO run (thread, {_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (thread, id) DO UPDATE"
            " SET status = excluded.status, started_at = excluded.started_at,"
            " ended_at = excluded.ended_at, error = excluded.error,"
            " base = excluded.base, starts = excluded.starts, context = excluded.context",
            (
                thread,
                run.id,
                run.status,
                run.started_at,
                run.ended_at,
                _pack(run.error),
                run.base,
                run.starts,
                run.context,
            ),
        )
    for key, note in entry.notes:
        if note is None:
            db.execute("DELETE FROM note WHERE thread = ? AND name = ?", (thread, key))
        else:
            db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (thread, key, note))
    return None


def _position(db: Connection, thread: str) -> Any:
    return db.execute("SELECT epoch, head FROM thread WHERE id = ?", (thread,)).fetchone()


# commands and runs


def submit(
    db: Connection,
    thread: str,
    command: str,
    body: bytes,
    *,
    context: bytes | None,
    limit: int,
    now: float,
    strategy: Strategy,
) -> Submission | Literal["full", "missing"]:
    record = find_command(db, thread, command)
    if record is not None:
        return Submission(record, created=False)
    if _position(db, thread) is None:
        return "missing"
    (waiting,) = db.execute(
        f"SELECT count(*) FROM inbox WHERE thread = ? AND {_OPEN_COMMAND}", (thread,)
    ).fetchone()
    if waiting >= limit:
        return "full"
    order = db.execute(
        "INSERT INTO inbox (thread, id, body, status, starts, submitted_at, context, strategy)"
        " VALUES (?, ?, ?, 'queued', 0, ?, ?, ?)",
        (thread, command, body, now, context, strategy),
    ).lastrowid
    assert order is not None
    record = CommandRecord(
        id=command, order=order, body=body, status="queued", context=context, strategy=strategy
    )
    return Submission(record, created=True)


def find_command(db: Connection, thread: str, command: str) -> CommandRecord | None:
    row = db.execute(
        f"SELECT {_COMMAND} FROM inbox WHERE thread = ? AND id = ?", (thread, command)
    ).fetchone()
    return None if row is None else command_record(row)


def runs(db: Connection, thread: str, limit: int) -> list[RunRecord]:
    rows = db.execute(
        f"SELECT {_RUN} FROM run WHERE thread = ? ORDER BY n DESC LIMIT ?", (thread, cut_limit(limit))
    )
    return [run_record(row) for row in rows]


def notes(db: Connection, thread: str) -> dict[str, bytes]:
    return dict(db.execute("SELECT name, data FROM note WHERE thread = ?", (thread,)).fetchall())


def unfinished(db: Connection) -> list[str]:
    rows = db.execute(
        f"SELECT thread FROM inbox WHERE {_OPEN_COMMAND}"
        f" UNION SELECT thread FROM run WHERE {_OPEN_RUN} ORDER BY 1"
    )
    return [thread for (thread,) in rows]


def _pack(error: ErrorInfo | None) -> bytes | None:
    return None if error is None else msgspec.json.encode(error)


# log and snapshots


def log(db: Connection, thread: str, after: int, limit: int) -> LogSlice | None:
    row = db.execute("SELECT floor_seq, floor_epoch, head FROM thread WHERE id = ?", (thread,)).fetchone()
    if row is None:
        return None
    floor_seq, floor_epoch, head = row
    return LogSlice(
        rows=_rows(db, thread, after, limit), floor_seq=floor_seq, floor_epoch=floor_epoch, head=head
    )


def row_epoch(db: Connection, thread: str, seq: int) -> int | None:
    row = db.execute(
        "SELECT epoch FROM log WHERE thread = :thread AND seq = :seq"
        " UNION ALL SELECT floor_epoch FROM thread WHERE id = :thread AND floor_seq = :seq",
        {"thread": thread, "seq": cut_seq(seq)},
    ).fetchone()
    return None if row is None else row[0]


def save_snapshot(
    db: Connection, thread: str, snapshot: StoredSnapshot, keep_after: int
) -> tuple[int, int] | None:
    """The seq and epoch of the new floor, where there are rows for `trim` to drop."""
    if row_epoch(db, thread, snapshot.seq) != snapshot.epoch:
        return None
    db.execute(
        "INSERT OR REPLACE INTO snapshot (thread, seq, epoch, data) VALUES (?, ?, ?, ?)",
        (thread, snapshot.seq, snapshot.epoch, snapshot.data),
    )
    newest = "SELECT seq FROM snapshot WHERE thread = ? ORDER BY seq DESC LIMIT 2"
    kept = [seq for (seq,) in db.execute(newest, (thread,))]
    if len(kept) < 2:
        return None
    db.execute("DELETE FROM snapshot WHERE thread = ? AND seq < ?", (thread, kept[1]))
    floor = min(keep_after, kept[1])
    row = db.execute("SELECT epoch FROM log WHERE thread = ? AND seq = ?", (thread, floor)).fetchone()
    return None if row is None else (floor, row[0])


def trim(db: Connection, thread: str, floor: tuple[int, int]) -> bool:
    """Drops some of the rows up to the floor and moves it there; whether there are more of them.

    Dropping 10,000 large rows takes a second, in which no other thread could commit.
    """
    seq, epoch = floor
    if row_epoch(db, thread, seq) != epoch:  # it is another thread of that id by now
        return False
    old: int
    (old,) = db.execute("SELECT floor_seq FROM thread WHERE id = ?", (thread,)).fetchone()
    last = min(seq, old + _TRIM_ROWS)
    if last > old:
        db.execute(
            "UPDATE thread SET floor_seq = ?, floor_epoch = ? WHERE id = ?",
            (last, row_epoch(db, thread, last), thread),
        )
        db.execute("DELETE FROM log WHERE thread = ? AND seq <= ?", (thread, last))
    return last < seq


def snapshot_before(db: Connection, thread: str, seq: int) -> StoredSnapshot | None:
    row = db.execute(
        "SELECT seq, epoch, data FROM snapshot WHERE thread = ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
        (thread, cut_seq(seq)),
    ).fetchone()
    return None if row is None else StoredSnapshot(*row)


def _rows(db: Connection, thread: str, after: int, limit: int) -> list[LogRow]:
    rows = db.execute(
        "SELECT seq, epoch, data FROM log WHERE thread = ? AND seq > ? ORDER BY seq LIMIT ?",
        (thread, cut_seq(after), cut_limit(limit)),
    )
    return [LogRow(seq, epoch, data) for seq, epoch, data in rows]


# thread records


def create(db: Connection, record: ThreadRecord, *, anonymous: bool) -> bool:
    if find_name(db, record.id) is not None:
        return False
    _insert(db, record, 0.0, anonymous=anonymous)
    return True


def find_name(db: Connection, id: str) -> ThreadName | None:
    row = db.execute(
        "SELECT id, anonymous FROM thread WHERE id = :id"
        " UNION ALL SELECT t.id, t.anonymous FROM name n JOIN thread t ON t.id = n.thread WHERE n.id = :id",
        {"id": id},
    ).fetchone()
    return None if row is None else ThreadName(row[0], bool(row[1]))


def bind(db: Connection, name: str, thread: str, *, keep: bool) -> bool:
    named, bound = find_name(db, name), find_name(db, thread)
    if bound is None or bound.id != thread or not bound.anonymous or name == thread:
        return named is not None and named.id == thread != name
    if named is not None and named.id not in (name, thread):
        return False
    if named is not None and named.id == name:
        # One that was made beforehand, to have an id; nothing has come of it.
        unused = db.execute(
            "SELECT archived FROM thread u WHERE id = ? AND floor_seq = 0"
            " AND agent = (SELECT agent FROM thread WHERE id = ?)"
            " AND NOT EXISTS (SELECT 1 FROM inbox WHERE thread = u.id)"
            " AND NOT EXISTS (SELECT 1 FROM log WHERE thread = u.id AND data <> ?)",
            (name, thread, encode_log(())),
        ).fetchone()
        if unused is None:
            return False
        db.execute("UPDATE thread SET archived = ? WHERE id = ?", (unused[0], thread))
        db.execute(
            "UPDATE thread_meta SET (title, custom) = (SELECT title, custom FROM thread_meta WHERE id = ?)"
            " WHERE id = ?",
            (name, thread),
        )
        delete_thread(db, name)
    db.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (name, thread))
    db.execute("UPDATE thread SET anonymous = ? WHERE id = ?", (not keep, thread))
    return True


def anonymous_before(db: Connection, time: float, limit: int) -> list[str]:
    rows = db.execute(
        "SELECT id FROM thread WHERE anonymous AND updated_at < ? ORDER BY updated_at, id LIMIT ?",
        (time, cut_limit(limit)),
    )
    return [id for (id,) in rows]


def find_thread(db: Connection, thread: str) -> ThreadRecord | None:
    row = db.execute(
        f"SELECT {_RECORD} FROM thread t JOIN thread_meta m USING (id) WHERE id = ?", (thread,)
    ).fetchone()
    return None if row is None else _record(row)


def find_threads(
    db: Connection, *, archived: Archived, agent: str | None, limit: int, after: tuple[float, str] | None
) -> ThreadPage:
    """`after` is the place of the last thread of the page before."""
    limit = max(1, limit)
    conditions = ["NOT t.anonymous"]
    values: list[object] = []
    if archived != "include":
        conditions.append("t.archived = ?")
        values.append(archived == "only")
    if agent is not None:
        conditions.append("t.agent = ?")
        values.append(agent)
    if after is not None:
        updated_at, id = after
        conditions.append("t.updated_at <= ? AND (t.updated_at < ? OR t.id > ?)")
        values += updated_at, updated_at, id
    rows = db.execute(  # a CROSS JOIN keeps its order: the index by time drives it
        f"SELECT {_RECORD} FROM thread t CROSS JOIN thread_meta m USING (id)"
        f" WHERE {' AND '.join(conditions)}"
        " ORDER BY t.updated_at DESC, t.id LIMIT ?",
        (*values, cut_limit(limit + 1)),
    )
    threads = [_record(row) for row in rows]
    if len(threads) <= limit:
        return ThreadPage(threads=threads)
    last = threads[limit - 1]
    return ThreadPage(threads=threads[:limit], cursor=write_cursor(last.updated_at, last.id))


def update_thread(
    db: Connection,
    thread: str,
    *,
    title: str | msgspec.UnsetType | None,
    archived: bool | msgspec.UnsetType,
    custom: dict[str, Json] | msgspec.UnsetType,
    now: float,
) -> ThreadRecord | None:
    record = find_thread(db, thread)
    given = {"title": title, "archived": archived, "custom": custom}
    changes = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    if record is None or not changes:
        return record
    record = msgspec.structs.replace(record, **changes, updated_at=now)
    db.execute("UPDATE thread SET archived = ?, updated_at = ? WHERE id = ?", (record.archived, now, thread))
    db.execute(
        "UPDATE thread_meta SET title = ?, custom = ? WHERE id = ?",
        (record.title, msgspec.json.encode(record.custom), thread),
    )
    return record


def delete_thread(db: Connection, thread: str) -> bool:
    return db.execute("DELETE FROM thread WHERE id = ?", (thread,)).rowcount == 1


def _insert(db: Connection, record: ThreadRecord, now: float, *, anonymous: bool = False) -> int:
    """A new thread; returns its first epoch."""
    epoch = take_epoch(db, now)
    db.execute(
        "INSERT INTO thread VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?)",
        (record.id, record.agent, record.archived, record.updated_at, epoch, epoch, anonymous),
    )
    db.execute(
        "INSERT INTO thread_meta VALUES (?, ?, ?, ?)",
        (record.id, record.title, record.created_at, msgspec.json.encode(record.custom)),
    )
    return epoch


def _record(row: tuple[Any, ...]) -> ThreadRecord:
    id, agent, title, archived, created_at, updated_at, custom = row
    return ThreadRecord(
        id=id,
        agent=agent,
        title=title,
        archived=bool(archived),
        created_at=created_at,
        updated_at=updated_at,
        custom=msgspec.json.decode(custom),
    )
