"""The Store's reads and writes as SQL: each one statement, which commits by itself.

A statement sees the database as it was when it began, so all that one reads belongs together. Connections
and batches are the business of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..core.codec import encode_log
from ..core.errors import ErrorInfo, WriteConflict
from ..core.frames import Strategy
from ..core.operations import Json
from ..engine.shared import Arrival, Elsewhere, Place, Progress, Standing
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
from .epochs import LARGEST_EPOCH
from .rows import LARGEST, command_record, conflict, cut_limit, cut_seq, run_record

_TRIM_ROWS: Final = 1000
"""Rows dropped at once."""

_MINUTE: Final = "60::float8"
_OPEN_COMMAND: Final = "status IN ('queued', 'running')"
_OPEN_RUN: Final = "status IN ('queued', 'running', 'waiting')"
_RECORD: Final = "t.id, t.agent, m.title::text, t.archived, m.created_at, t.updated_at, m.custom::text"
_COMMAND: Final = "id, n, body, status, starts, seq, error::text, context, strategy"
_RUN: Final = "id, status, started_at, ended_at, error::text, base, starts, context"
_NO_LEASE: Final = "'epoch'::timestamptz"
_FREE: Final = "lease_until < clock_timestamp()"
_LEASE_S: Final = "greatest(extract(epoch FROM lease_until - clock_timestamp()), 0)::float8"
_OWNER: Final = "CASE WHEN lease_until >= clock_timestamp() THEN owner END"


def _next_epoch(last: str, now: str) -> str:
    """The rule of `epochs.next_epoch`, with the database's clock too."""
    return f"greatest({last} + 1, {now}, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"


def _milliseconds(now: float) -> int:
    return -int(-now * 1000 // 1) if 0 <= now * 1000 <= LARGEST_EPOCH else 0


# owner

_TAKE: Final = f"""
WITH taken AS (
    UPDATE thread SET epoch = {_next_epoch("epoch", "$3")}, head = head + 1, version = version + 1,
        owner = $2, lease_until = clock_timestamp() + $4::float8 * interval '1 second', parked = false
    WHERE id = $1 AND CASE WHEN owner = $2 THEN $5 ELSE {_FREE} END
    RETURNING epoch, head, version
), written AS (INSERT INTO log SELECT $1, head, epoch, $6 FROM taken)
SELECT epoch, version FROM taken"""

_KEEP: Final = """
UPDATE thread SET lease_until = clock_timestamp() + $3::float8 * interval '1 second', parked = false
WHERE id = $1 AND owner = $2 RETURNING epoch, version"""

_HOLDER: Final = f"""
SELECT owner, {_LEASE_S} FROM thread WHERE id = $1 AND NOT {_FREE}"""

_INSERT: Final = f"""
WITH made AS (
    INSERT INTO thread
    SELECT $1, $2, $3, $11, $4::float8, floor($4::float8 / {_MINUTE}), e, 0, 0, 0, e, $5::text,
        CASE WHEN $5 IS NULL THEN {_NO_LEASE} ELSE clock_timestamp() + $6::float8 * interval '1 second' END,
        false
    FROM (SELECT {_next_epoch("epoch", "$7")} AS e FROM store) AS next
    WHERE NOT EXISTS (SELECT FROM name WHERE id = $1)
    ON CONFLICT DO NOTHING
    RETURNING id, epoch
), described AS (INSERT INTO thread_meta SELECT id, $8::json, $9, $10::json FROM made)
SELECT epoch FROM made"""


async def take(
    db: Any, thread: str, *, node: str, lease_s: float, agent: str | None, now: float, anew: bool
) -> tuple[int, int] | Owned | Elsewhere | ThreadName | None:
    """Takes a thread that no other node has a lease on; a new epoch where `anew` or it was another's.

    A thread made by this call is returned whole, and has the version 0; of another one the epoch and the
    version, for `load` to read the rest. Of another name of a thread, which it is.
    """
    while True:
        taken = await db.fetchrow(_TAKE, thread, node, _milliseconds(now), lease_s, anew, encode_log(()))
        if taken is None:
            taken = await db.fetchrow(_KEEP, thread, node, lease_s)
        if taken is not None:
            return taken["epoch"], taken["version"]
        holder = await db.fetchrow(_HOLDER, thread)
        if holder is not None:
            return Elsewhere(*holder)
        named = await find_name(db, thread)
        if named is not None and named.id == thread:
            continue  # its lease has ended just now, or it was made
        if named is not None:
            return named
        if agent is None:
            return None
        record = ThreadRecord(id=thread, agent=agent, created_at=now, updated_at=now)
        epoch = await _insert(db, record, now, node=node, lease_s=lease_s)
        if epoch is not None:
            return Owned(record=record, epoch=epoch, head=0, snapshot=None, tail=[], commands=[], run=None)


async def load(db: Any, thread: str, epoch: int, version: int) -> Owned | None:
    """All there is of a thread that this node has taken; None where it is gone or under another epoch."""
    row = await db.fetchrow(
        f"SELECT t.head, {_RECORD} FROM thread t JOIN thread_meta m USING (id) WHERE id = $1 AND epoch = $2",
        thread,
        epoch,
    )
    if row is None:
        return None
    head = row[0]
    snapshot = await snapshot_before(db, thread, head)
    commands = await db.fetch(
        f"SELECT {_COMMAND} FROM inbox WHERE thread = $1 AND {_OPEN_COMMAND} ORDER BY n", thread
    )
    last = await runs(db, thread, 1)
    tail = await _rows(db, thread, 0 if snapshot is None else snapshot.seq, LARGEST)
    return Owned(
        record=_record(row[1:]),
        epoch=epoch,
        head=head,
        snapshot=snapshot,
        # A later owner may have written meanwhile, or an append of our own before the epoch was taken.
        tail=[each for each in tail if each.seq <= head],
        commands=[command_record(each) for each in commands],
        run=last[0] if last else None,
        version=version,
    )


async def renew(db: Any, node: str, lease_s: float, epochs: Mapping[str, int]) -> set[str]:
    rows = await db.fetch(
        "UPDATE thread SET lease_until = clock_timestamp() + $2::float8 * interval '1 second'"
        " FROM unnest($3::text[], $4::bigint[]) AS mine (thread, under)"
        " WHERE id = mine.thread AND epoch = mine.under AND owner = $1 AND NOT parked RETURNING id",
        node,
        lease_s,
        list(epochs),
        list(epochs.values()),
    )
    return {id for (id,) in rows}


async def release(db: Any, node: str, thread: str, epoch: int, *, parked: bool) -> None:
    """Parked, it keeps its owner's name: taken again by the same node it needs no new epoch."""
    await db.execute(
        f"UPDATE thread SET owner = CASE WHEN $4 THEN owner END, lease_until = {_NO_LEASE}, parked = $4"
        " WHERE id = $1 AND epoch = $2 AND owner = $3",
        thread,
        epoch,
        node,
        parked,
    )


async def release_all(db: Any, node: str) -> None:
    await db.execute(
        f"UPDATE thread SET owner = NULL, lease_until = {_NO_LEASE} WHERE owner = $1 AND NOT {_FREE}", node
    )


# append

_ADVANCE: Final = f"""
entry AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::float8[], $6::bigint[])
    WITH ORDINALITY AS e (thread, epoch, seq, data, now, version, n)
), advanced AS (
    UPDATE thread t SET head = e.seq, version = t.version + 1,
        updated_at = CASE WHEN e.data IS NULL THEN t.updated_at ELSE e.now END,
        recent = CASE WHEN e.data IS NULL THEN t.recent ELSE floor(e.now / {_MINUTE}) END
    FROM entry e
    WHERE t.id = e.thread AND t.epoch = e.epoch
        AND t.head = CASE WHEN e.data IS NULL THEN e.seq ELSE e.seq - 1 END
        AND (e.version IS NULL OR t.version = e.version)
    RETURNING t.id, e.epoch, e.seq, e.data, e.n, t.version
), logged AS (
    INSERT INTO log SELECT id, seq, epoch, data FROM advanced WHERE data IS NOT NULL
)"""

_APPEND_ROWS: Final = f"WITH {_ADVANCE} SELECT n, version FROM advanced"

_APPEND: Final = f"""
WITH {_ADVANCE}, command AS (
    UPDATE inbox i SET status = c.status, starts = coalesce(c.starts, i.starts), seq = c.seq,
        error = c.error::json,
        context = CASE WHEN c.status IN ('queued', 'running') THEN i.context END
    FROM unnest($7::bigint[], $8::text[], $9::text[], $10::int[], $11::bigint[], $12::text[])
        AS c (n, id, status, starts, seq, error) JOIN advanced a ON a.n = c.n
    WHERE i.thread = a.id AND i.id = c.id
), running AS (
    INSERT INTO run (thread, id, status, started_at, ended_at, error, base, starts, context)
    SELECT a.id, r.id, r.status, r.started_at, r.ended_at, r.error::json, r.base, r.starts,
        r.context
    FROM unnest($13::bigint[], $14::text[], $15::text[], $16::float8[], $17::float8[], $18::text[],
        $19::bigint[], $20::int[], $21::bytea[])
        AS r (n, id, status, started_at, ended_at, error, base, starts, context)
    JOIN advanced a ON a.n = r.n
    ON CONFLICT (thread, id) DO UPDATE SET status = excluded.status, started_at = excluded.started_at,
        ended_at = excluded.ended_at, error = excluded.error, base = excluded.base,
        starts = excluded.starts, context = excluded.context
), noted AS (
    INSERT INTO note
    SELECT a.id, c.name, c.data FROM unnest($22::bigint[], $23::text[], $24::bytea[]) AS c (n, name, data)
    JOIN advanced a ON a.n = c.n WHERE c.data IS NOT NULL
    ON CONFLICT (thread, name) DO UPDATE SET data = excluded.data
), dropped AS (
    DELETE FROM note USING unnest($22::bigint[], $23::text[], $24::bytea[]) AS c (n, name, data)
        JOIN advanced a ON a.n = c.n
    WHERE thread = a.id AND note.name = c.name AND c.data IS NULL
)
SELECT n, version FROM advanced"""


async def append(
    db: Any, entries: Sequence[Append], versions: Sequence[int | None]
) -> list[int | WriteConflict]:
    """Writes those that fit, each of another thread; of each the version after it, or why it did not.

    `versions` are those that the entries are made on, where they are known. Without them, an attempt whose
    answer was lost could come after what was written since.
    """
    columns: list[Any] = [
        [entry.thread for entry in entries],
        [entry.epoch for entry in entries],
        [entry.seq for entry in entries],
        [entry.data for entry in entries],
        [entry.now for entry in entries],
        versions,
    ]
    statement = _APPEND_ROWS
    if any(entry.commands or entry.run is not None or entry.notes for entry in entries):
        statement = _APPEND
        columns += _record_columns(entries)
    written: dict[int, int] = dict(await db.fetch(statement, *columns))
    refused = [entry.thread for n, entry in enumerate(entries, 1) if n not in written]
    positions: dict[str, tuple[int, int, int]] = {}
    if refused:
        rows = await db.fetch(
            "SELECT id, epoch, head, version FROM thread WHERE id = ANY($1::text[])", refused
        )
        positions = {id: (epoch, head, version) for id, epoch, head, version in rows}
    outcomes: list[int | WriteConflict] = []
    for n, (entry, version) in enumerate(zip(entries, versions, strict=True), 1):
        position = positions.get(entry.thread)
        if n in written:
            outcomes.append(written[n])
        elif position is not None and _is_there(entry, version, position):
            outcomes.append(position[2])
        else:
            outcomes.append(conflict(entry))
    return outcomes


def _is_there(entry: Append, version: int | None, position: tuple[int, int, int]) -> bool:
    """Whether the entry was written before, and its answer lost."""
    epoch, head, reached = position
    if (epoch, head) != (entry.epoch, entry.seq):
        return False
    return entry.data is not None or (version is not None and reached == version + 1)


def _record_columns(entries: Sequence[Append]) -> list[list[Any]]:
    commands = [
        (n, each.id, each.status, each.starts, each.seq, _pack(each.error))
        for n, entry in enumerate(entries, 1)
        for each in entry.commands
    ]
    running = [
        (
            n,
            run.id,
            run.status,
            run.started_at,
            run.ended_at,
            _pack(run.error),
            run.base,
            run.starts,
            run.context,
        )
        for n, entry in enumerate(entries, 1)
        if (run := entry.run) is not None
    ]
    notes = [(n, *note) for n, entry in enumerate(entries, 1) for note in entry.notes]
    return [*_columns(commands, 6), *_columns(running, 9), *_columns(notes, 3)]


def _rest(run: RunRecord) -> tuple[int, int, bytes | None]:
    return run.base, run.starts, run.context


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [[row[index] for row in rows] for index in range(count)]


# commands and runs


class Submit(msgspec.Struct, frozen=True):
    thread: str
    command: str
    body: bytes
    limit: int
    now: float
    strategy: Strategy
    origin: str | None
    context: bytes | None


# The thread's row is locked, so that it isn't deleted meanwhile.
_SUBMIT: Final = f"""
WITH entry AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::float8[], $6::text[],
        $7::text[], $8::bytea[])
        WITH ORDINALITY AS e (thread, id, body, most, now, strategy, origin, context, nr)
), held AS (
    SELECT id FROM thread WHERE id = ANY($1::text[]) ORDER BY id FOR KEY SHARE
), made AS (
    INSERT INTO inbox (thread, id, body, status, starts, submitted_at, strategy, origin, context)
    SELECT e.thread, e.id, e.body, 'queued', 0, e.now, e.strategy, e.origin, e.context
    FROM entry e JOIN held h ON h.id = e.thread
    WHERE (SELECT count(*) FROM inbox i WHERE i.thread = e.thread AND i.{_OPEN_COMMAND}) < e.most
    ORDER BY e.nr
    ON CONFLICT (thread, id) DO NOTHING
    RETURNING thread, id, n
)
SELECT h.id IS NOT NULL, m.n FROM entry e LEFT JOIN held h ON h.id = e.thread
LEFT JOIN made m ON m.thread = e.thread AND m.id = e.id ORDER BY e.nr"""


async def submit(db: Any, submits: Sequence[Submit]) -> list[Submission | KeyError | None]:
    """Puts commands into inboxes, each of another thread. KeyError: there is no such thread."""
    columns = _columns([msgspec.structs.astuple(each) for each in submits], 8)
    rows = await db.fetch(_SUBMIT, *columns)
    outcomes: list[Submission | KeyError | None] = []
    for each, (exists, order) in zip(submits, rows, strict=True):
        if not exists:
            outcomes.append(KeyError(each.thread))
        elif order is not None:
            record = CommandRecord(
                id=each.command,
                order=order,
                body=each.body,
                status="queued",
                context=each.context,
                strategy=each.strategy,
            )
            outcomes.append(Submission(record, created=True))
        else:
            known = await find_command(db, each.thread, each.command)
            outcomes.append(None if known is None else Submission(known, created=False))
    return outcomes


async def find_command(db: Any, thread: str, command: str) -> CommandRecord | None:
    row = await db.fetchrow(f"SELECT {_COMMAND} FROM inbox WHERE thread = $1 AND id = $2", thread, command)
    return None if row is None else command_record(row)


async def arrivals(db: Any, threads: Sequence[str]) -> dict[str, list[str]]:
    rows = await db.fetch(
        f"SELECT thread, id FROM inbox WHERE thread = ANY($1::text[]) AND {_OPEN_COMMAND}"
        " AND status = 'queued' AND origin IS NOT NULL ORDER BY n",
        threads,
    )
    found: dict[str, list[str]] = {}
    for thread, id in rows:
        found.setdefault(thread, []).append(id)
    return found


async def read_arrivals(db: Any, thread: str, ids: Sequence[str]) -> list[Arrival]:
    rows = await db.fetch(
        f"SELECT origin, {_COMMAND} FROM inbox WHERE thread = $1 AND id = ANY($2::text[]) ORDER BY n",
        thread,
        ids,
    )
    return [Arrival(command_record(row[1:]), row[0]) for row in rows]


async def runs(db: Any, thread: str, limit: int) -> list[RunRecord]:
    rows = await db.fetch(
        f"SELECT {_RUN} FROM run WHERE thread = $1 ORDER BY n DESC LIMIT $2", thread, cut_limit(limit)
    )
    return [run_record(row) for row in rows]


async def notes(db: Any, thread: str) -> dict[str, bytes]:
    return dict(await db.fetch("SELECT name, data FROM note WHERE thread = $1", thread))


async def unfinished(db: Any) -> list[str]:
    rows = await db.fetch(
        f"SELECT thread FROM inbox WHERE {_OPEN_COMMAND}"
        f" UNION SELECT thread FROM run WHERE {_OPEN_RUN} ORDER BY 1"
    )
    return [thread for (thread,) in rows]


async def orphans(db: Any, agents: Sequence[str], limit: int) -> list[str]:
    # In any order, so that nodes that look at the same time don't all take the same ones first.
    rows = await db.fetch(
        f"""
        SELECT t.id FROM (
            SELECT thread FROM inbox WHERE {_OPEN_COMMAND}
            UNION SELECT thread FROM run WHERE {_OPEN_RUN}
        ) AS open JOIN thread t ON t.id = open.thread
        WHERE t.{_FREE} AND t.agent = ANY($1::text[]) AND (NOT t.parked OR EXISTS (
            SELECT FROM inbox i WHERE i.thread = t.id AND i.{_OPEN_COMMAND} AND i.status = 'queued'))
        ORDER BY random() LIMIT $2""",
        agents,
        limit,
    )
    return [id for (id,) in rows]


def _pack(error: ErrorInfo | None) -> str | None:
    return None if error is None else msgspec.json.encode(error).decode()


# following

_FOLLOW: Final = f"""
WITH place AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]) AS p (thread, after, run)
)
SELECT 0 AS kind, t.id AS thread, t.head AS a, t.epoch AS b, t.version AS c, NULL::bytea AS data,
    {_OWNER} AS text
FROM place p JOIN thread t ON t.id = p.thread
UNION ALL
SELECT 1, p.thread, l.seq, l.epoch, NULL, l.data, NULL
FROM place p CROSS JOIN LATERAL (
    SELECT seq, epoch, CASE WHEN seq > p.after THEN data ELSE ''::bytea END AS data
    FROM log WHERE thread = p.thread AND seq >= p.after ORDER BY seq LIMIT $4
) AS l
UNION ALL
SELECT 2, p.thread, r.n, NULL, NULL, NULL,
    json_build_array(r.id, r.status, r.started_at, r.ended_at, r.error::text, r.base, r.starts)::text
FROM place p CROSS JOIN LATERAL (
    SELECT * FROM run WHERE thread = p.thread AND n >= coalesce(
        (SELECT n FROM run WHERE thread = p.thread AND id = p.run),
        (SELECT max(n) FROM run WHERE thread = p.thread))
) AS r
UNION ALL
SELECT 3, i.thread, i.n, NULL, NULL, i.body,
    json_build_array(i.id, i.status, i.starts, i.seq, i.error::text, i.strategy)::text
FROM unnest($5::text[], $6::text[]) AS c (thread, id) JOIN inbox i ON i.thread = c.thread AND i.id = c.id
ORDER BY kind, thread, a"""


async def follow(db: Any, places: Sequence[Place], rows: int) -> dict[str, Progress]:
    watched = [(place.thread, command) for place in places for command in place.commands]
    after = {place.thread: place.after for place in places}
    found: dict[str, Progress] = {}
    records = await db.fetch(
        _FOLLOW,
        [place.thread for place in places],
        [cut_seq(place.after) for place in places],
        [place.run for place in places],
        rows + 1,
        *_columns(watched, 2),
    )
    for kind, thread, a, b, c, data, text in records:
        match kind:
            case 0:
                found[thread] = Progress(
                    epoch=b, head=a, version=c, owner=text, base=None, rows=[], runs=[], commands=[]
                )
            case 1 if a <= after[thread]:
                found[thread] = msgspec.structs.replace(found[thread], base=b)
            case 1 if len(found[thread].rows) < rows:
                found[thread].rows.append(LogRow(a, b, data))
            case 1:
                pass  # one too many, where the place's own row is gone
            case 2:
                found[thread].runs.append(run_record((*msgspec.json.decode(text), None)))
            case _:
                id, status, starts, seq, error, strategy = msgspec.json.decode(text)
                if thread in found:
                    found[thread].commands.append(
                        command_record((id, a, data, status, starts, seq, error, None, strategy))
                    )
    return found


async def standings(db: Any, threads: Sequence[str]) -> list[Standing]:
    rows = await db.fetch(
        f"SELECT id, epoch, version, {_OWNER}, {_LEASE_S} FROM thread WHERE id = ANY($1::text[])", threads
    )
    return [Standing(*row) for row in rows]


async def post(db: Any, node: str, message: str) -> None:
    await db.execute("INSERT INTO mail (node, message) VALUES ($1, $2)", node, message)


async def mail(db: Any, node: str) -> list[str]:
    """Takes out what is for the node, and what a node that is gone has left."""
    rows = await db.fetch(
        "DELETE FROM mail WHERE node = $1 OR posted_at < clock_timestamp() - interval '2 minutes'"
        " RETURNING n, node, message",
        node,
    )
    return [message for _, to, message in sorted(rows) if to == node]


# log and snapshots


async def log(db: Any, thread: str, after: int, limit: int) -> LogSlice | None:
    records = await db.fetch(
        """
        SELECT floor_seq AS seq, floor_epoch AS epoch, NULL AS data, head FROM thread WHERE id = $1
        UNION ALL
        SELECT * FROM (
            SELECT seq, epoch, data, NULL::bigint FROM log WHERE thread = $1 AND seq > $2
            ORDER BY seq LIMIT $3
        ) AS rows""",
        thread,
        cut_seq(after),
        cut_limit(limit),
    )
    bounds = next((each for each in records if each[3] is not None), None)
    if bounds is None:
        return None
    rows = [LogRow(seq, epoch, data) for seq, epoch, data, head in records if head is None]
    rows.sort(key=lambda row: row.seq)
    return LogSlice(rows=rows, floor_seq=bounds[0], floor_epoch=bounds[1], head=bounds[3])


async def row_epoch(db: Any, thread: str, seq: int) -> int | None:
    epoch: int | None = await db.fetchval(
        "SELECT epoch FROM log WHERE thread = $1 AND seq = $2"
        " UNION ALL SELECT floor_epoch FROM thread WHERE id = $1 AND floor_seq = $2",
        thread,
        cut_seq(seq),
    )
    return epoch


_SAVE: Final = """
WITH held AS (SELECT id, floor_seq, floor_epoch FROM thread WHERE id = $1 FOR KEY SHARE)
INSERT INTO snapshot SELECT $1, $2, $3, $4 FROM held
WHERE (floor_seq, floor_epoch) = ($2, $3)
    OR EXISTS (SELECT FROM log WHERE thread = $1 AND seq = $2 AND epoch = $3)
ON CONFLICT (thread, seq) DO UPDATE SET epoch = excluded.epoch, data = excluded.data
RETURNING seq"""


async def save_snapshot(db: Any, thread: str, snapshot: StoredSnapshot) -> int | None:
    """Keeps the newest two, and returns the older one's seq; None where there is none, or it wasn't kept."""
    saved = await db.fetchval(_SAVE, thread, cut_seq(snapshot.seq), snapshot.epoch, snapshot.data)
    if saved is None:
        return None
    newest = await db.fetch("SELECT seq FROM snapshot WHERE thread = $1 ORDER BY seq DESC LIMIT 2", thread)
    if len(newest) < 2:
        return None
    older = int(newest[1][0])
    await db.execute("DELETE FROM snapshot WHERE thread = $1 AND seq < $2", thread, older)
    return older


_TRIM: Final = f"""
WITH bound AS (
    SELECT id, least($2, floor_seq + {_TRIM_ROWS}) AS last FROM thread WHERE id = $1
), moved AS (
    UPDATE thread t SET floor_seq = b.last, floor_epoch = l.epoch
    FROM bound b JOIN log l ON l.thread = b.id AND l.seq = b.last
    WHERE t.id = b.id AND t.floor_seq < b.last
        AND EXISTS (SELECT FROM snapshot s WHERE s.thread = b.id AND s.seq >= $2)
    RETURNING t.floor_seq
), gone AS (DELETE FROM log USING moved WHERE thread = $1 AND seq <= moved.floor_seq)
SELECT floor_seq FROM moved"""


async def trim(db: Any, thread: str, floor: int) -> bool:
    """Drops some of the rows up to the floor and moves it there; whether there are more of them."""
    reached = await db.fetchval(_TRIM, thread, floor)
    return reached is not None and reached < floor


async def snapshot_before(db: Any, thread: str, seq: int) -> StoredSnapshot | None:
    row = await db.fetchrow(
        "SELECT seq, epoch, data FROM snapshot WHERE thread = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1",
        thread,
        cut_seq(seq),
    )
    return None if row is None else StoredSnapshot(*row)


async def _rows(db: Any, thread: str, after: int, limit: int) -> list[LogRow]:
    rows = await db.fetch(
        "SELECT seq, epoch, data FROM log WHERE thread = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        thread,
        cut_seq(after),
        cut_limit(limit),
    )
    return [LogRow(*row) for row in rows]


# thread records


async def create(db: Any, record: ThreadRecord, *, anonymous: bool) -> bool:
    return await _insert(db, record, 0.0, node=None, lease_s=0.0, anonymous=anonymous) is not None


async def _insert(
    db: Any, record: ThreadRecord, now: float, *, node: str | None, lease_s: float, anonymous: bool = False
) -> int | None:
    """A new thread; returns its first epoch, None where the id names one."""
    async with db.transaction():
        # Deleting and naming under way are waited for, and what they leave is seen by the next statement.
        await db.execute("SELECT FROM store FOR SHARE")
        epoch: int | None = await db.fetchval(
            _INSERT,
            record.id,
            record.agent,
            record.archived,
            record.updated_at,
            node,
            lease_s,
            _milliseconds(now),
            msgspec.json.encode(record.title).decode(),
            record.created_at,
            msgspec.json.encode(record.custom).decode(),
            anonymous,
        )
    return epoch


async def find_name(db: Any, id: str) -> ThreadName | None:
    row = await db.fetchrow(
        "SELECT id, anonymous FROM thread WHERE id = $1"
        " UNION ALL SELECT t.id, t.anonymous FROM name n JOIN thread t ON t.id = n.thread WHERE n.id = $1",
        id,
    )
    return None if row is None else ThreadName(*row)


async def bind(db: Any, name: str, thread: str, *, keep: bool) -> bool:
    async with db.transaction():
        await db.execute("SELECT FROM store FOR UPDATE")  # as whoever makes or deletes threads
        named, bound = await find_name(db, name), await find_name(db, thread)
        if bound is None or bound.id != thread or not bound.anonymous or name == thread:
            return named is not None and named.id == thread != name
        if named is not None and named.id not in (name, thread):
            return False
        if named is not None and named.id == name and not await _take_place(db, name, thread):
            return False
        await db.execute("INSERT INTO name VALUES ($1, $2) ON CONFLICT DO NOTHING", name, thread)
        await db.execute("UPDATE thread SET anonymous = $2 WHERE id = $1", thread, not keep)
    return True


async def _take_place(db: Any, unused: str, thread: str) -> bool:
    """Removes a thread that was made beforehand, to have an id; False where something has come of it."""
    archived = await db.fetchval(
        "SELECT archived FROM thread u WHERE id = $1 AND floor_seq = 0"
        " AND agent = (SELECT agent FROM thread WHERE id = $2)"
        " AND NOT EXISTS (SELECT FROM inbox WHERE thread = u.id)"
        " AND NOT EXISTS (SELECT FROM log WHERE thread = u.id AND data <> $3) FOR UPDATE",
        unused,
        thread,
        encode_log(()),
    )
    if archived is None:
        return False
    await db.execute("UPDATE thread SET archived = $2 WHERE id = $1", thread, archived)
    await db.execute(
        "UPDATE thread_meta m SET title = u.title, custom = u.custom FROM thread_meta u"
        " WHERE m.id = $2 AND u.id = $1",
        unused,
        thread,
    )
    await _delete(db, unused)
    return True


async def anonymous_before(db: Any, time: float, limit: int) -> list[str]:
    rows = await db.fetch(
        f"SELECT id FROM thread WHERE anonymous AND recent <= floor($1::float8 / {_MINUTE})"
        " AND updated_at < $1 ORDER BY updated_at, id LIMIT $2",
        time,
        cut_limit(limit),
    )
    return [id for (id,) in rows]


async def find_thread(db: Any, thread: str) -> ThreadRecord | None:
    row = await db.fetchrow(
        f"SELECT {_RECORD} FROM thread t JOIN thread_meta m USING (id) WHERE id = $1", thread
    )
    return None if row is None else _record(row)


async def find_threads(
    db: Any, *, archived: Archived, agent: str | None, limit: int, after: tuple[float, str] | None
) -> ThreadPage:
    """`after` is the place of the last thread of the page before."""
    limit = max(1, limit)
    values: list[object] = [cut_limit(limit + 1)]
    conditions = ["NOT t.anonymous"]

    def value(given: object) -> str:
        values.append(given)
        return f"${len(values)}"

    if archived != "include":
        conditions.append(f"t.archived = {value(archived == 'only')}")
    if agent is not None:
        conditions.append(f"t.agent = {value(agent)}")
    if after is not None:
        time, id = value(after[0]), value(after[1])
        conditions.append(f"t.recent <= floor({time}::float8 / {_MINUTE})")
        conditions.append(f"t.updated_at <= {time} AND (t.updated_at < {time} OR t.id > {id})")
    where = f"WHERE {' AND '.join(conditions)}"
    rows = await db.fetch(  # the index by the minute drives it, and little is left to sort
        f"""
        SELECT {_RECORD} FROM (
            SELECT * FROM thread t {where} ORDER BY recent DESC, updated_at DESC, id LIMIT $1
        ) AS t JOIN thread_meta m USING (id) ORDER BY t.updated_at DESC, t.id""",
        *values,
    )
    threads = [_record(row) for row in rows]
    if len(threads) <= limit:
        return ThreadPage(threads=threads)
    last = threads[limit - 1]
    return ThreadPage(threads=threads[:limit], cursor=write_cursor(last.updated_at, last.id))


_CHANGE: Final = f"""
WITH changed AS (
    UPDATE thread t SET updated_at = $2, recent = floor($2::float8 / {_MINUTE}),
        archived = coalesce($3, t.archived)
    WHERE id = $1 RETURNING *
), described AS (
    UPDATE thread_meta m SET title = coalesce($4::json, m.title), custom = coalesce($5::json, m.custom)
    FROM changed t WHERE m.id = t.id RETURNING m.*
)
SELECT {_RECORD} FROM changed t JOIN described m USING (id)"""


async def update_thread(
    db: Any,
    thread: str,
    *,
    title: str | msgspec.UnsetType | None,
    archived: bool | msgspec.UnsetType,
    custom: dict[str, Json] | msgspec.UnsetType,
    now: float,
) -> ThreadRecord | None:
    if title is msgspec.UNSET and archived is msgspec.UNSET and custom is msgspec.UNSET:
        return await find_thread(db, thread)
    row = await db.fetchrow(
        _CHANGE,
        thread,
        now,
        None if archived is msgspec.UNSET else archived,
        None if title is msgspec.UNSET else msgspec.json.encode(title).decode(),
        None if custom is msgspec.UNSET else msgspec.json.encode(custom).decode(),
    )
    return None if row is None else _record(row)


async def delete_thread(db: Any, thread: str) -> bool:
    # Not in one statement: that would not see, and leave, what an append under way has yet to commit.
    async with db.transaction():
        # First, as by whoever makes a thread.
        await db.execute("SELECT FROM store FOR UPDATE")
        return await _delete(db, thread)


async def _delete(db: Any, thread: str) -> bool:
    epoch = await db.fetchval("DELETE FROM thread WHERE id = $1 RETURNING epoch", thread)
    if epoch is None:
        return False
    await db.execute("UPDATE store SET epoch = greatest(epoch, $1)", epoch)
    await db.execute("DELETE FROM thread_meta WHERE id = $1", thread)
    for table in ("log", "snapshot", "inbox", "run", "note", "name"):
        await db.execute(f"DELETE FROM {table} WHERE thread = $1", thread)
    return True


def _record(row: Sequence[Any]) -> ThreadRecord:
    id, agent, title, archived, created_at, updated_at, custom = row
    return ThreadRecord(
        id=id,
        agent=agent,
        title=msgspec.json.decode(title),
        archived=archived,
        created_at=created_at,
        updated_at=updated_at,
        custom=msgspec.json.decode(custom),
    )
