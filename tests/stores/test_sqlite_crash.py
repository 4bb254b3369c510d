"""Nothing that SQLiteStore acknowledged is lost: neither by `kill -9` nor by a power failure."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support import power_loss
from tests.support.stores import TAKEOVER, TIMEOUT_S, own, row
from threadwire.core.codec import decode_log
from threadwire.engine.store import Store
from threadwire.stores import SQLiteStore

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@contextmanager
def writer(
    database: Path, notes: Path | str, *options: object, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A writing process, which is killed if it takes too long and must not have written to stderr."""
    command = [sys.executable, "-m", "tests.support.store_writer", str(database), str(notes)]
    process = subprocess.Popen(
        [*command, *map(str, options)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        with process:
            yield process
            assert process.stderr is not None
            assert process.stderr.read() == b""
    finally:
        process.kill()
        watchdog.cancel()


def read_notes(notes: bytes) -> list[list[str]]:
    """Each complete line's words."""
    return [line.decode().split() for line in notes.splitlines(keepends=True) if line.endswith(b"\n")]


async def missing(store: Store, notes: list[list[str]]) -> list[list[str]]:
    """What was acknowledged and isn't there."""
    return [note for note in notes if not await is_there(store, note)]


async def is_there(store: Store, note: list[str]) -> bool:
    what, thread, name = note[:3]
    found = await store.log(thread, after=0, limit=0)
    if found is None:
        return False
    if what == "command":
        return await store.command(thread, name) is not None
    seq = int(name)
    if what == "snapshot":
        snapshot = await store.snapshot_before(thread, 2**53)
        return snapshot is not None and snapshot.seq >= seq
    if seq <= found.floor_seq:
        return True
    if await store.row_epoch(thread, seq) != int(note[3]):
        return False
    found = await store.log(thread, after=seq - 1, limit=1)
    return found is not None and (seq == 0 or found.rows[0].data in (row(seq), TAKEOVER))


async def check_threads(store: Store, epochs: list[int]) -> None:
    """Every thread is whole, and its next epoch is larger than all that were seen of it."""
    for record in (await store.threads(archived="include", agent=None, limit=100, cursor=None)).threads:
        owner = await own(store, record.id, now=0.0)
        assert owner.epoch > max(epochs)
        found = await store.log(record.id, after=0, limit=2**53)
        assert found is not None
        assert [each.seq for each in found.rows] == list(range(found.floor_seq + 1, owner.head + 1))
        for each in found.rows:
            decode_log(each.data)
            if each.seq % 5 == 0 and each.data != TAKEOVER:
                command = await store.command(record.id, f"c{each.seq}")
                assert command is not None
                assert (command.status, command.seq) == ("applied", each.seq)
        owned = await store.acquire(record.id, agent=None, now=0.0)
        assert owned is not None
        written = [each.seq for each in found.rows if each.data != TAKEOVER]
        if written:
            assert owned.run is not None
            assert owned.run.started_at == written[-1]


def epochs_of(notes: list[list[str]]) -> list[int]:
    return [0, *(int(note[3]) for note in notes if note[0] == "row")]


async def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    database = tmp_path / "threads.db"
    random = Random(1)
    notes: list[list[str]] = []
    for _ in range(10):
        with writer(database, "-") as process:
            assert process.stdout is not None
            acknowledged = process.stdout.read(random.randrange(1, 20_000))
            process.kill()
            acknowledged += process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        notes += read_notes(acknowledged)

        async with SQLiteStore(database, clock=lambda: 0.0) as store:
            assert await missing(store, notes) == []
            await check_threads(store, epochs_of(notes))


def power_failures(tmp_path: Path, *options: object, lucky: bool) -> Iterator[tuple[Path, list[list[str]]]]:
    """Directories as they are found after power failures, and what had been acknowledged before."""
    watched = tmp_path / "watched"
    watched.mkdir()
    journal = tmp_path / "journal"
    environment = power_loss.environment(power_loss.build(tmp_path), watched, journal)
    with writer(
        watched / "threads.db", watched / "notes", *("--appends", 45, *options), environment=environment
    ) as process:
        process.wait()
    assert process.returncode == 0
    operations = list(power_loss.operations(journal))
    for name in ("threads.db", "notes"):  # the journal has all that was written
        disk = power_loss.Disk()
        for operation in operations:
            disk.apply(operation)
        assert disk.content(name) == (watched / name).read_bytes()

    random = Random(2)
    acknowledged = [index for index, each in enumerate(operations) if each.file == "notes"]
    moments = {*random.sample(acknowledged, 20), *random.sample(range(acknowledged[0], len(operations)), 10)}
    disk = power_loss.Disk()
    for index, operation in enumerate(operations):
        disk.apply(operation)
        if index in moments:
            found = tmp_path / f"found-{index}"
            disk.lose_power(found, random if lucky else None)
            yield found, read_notes(disk.content("notes"))


@pytest.mark.parametrize("lucky", [False, True], ids=["all-unsynced-lost", "part-of-unsynced-lost"])
@pytest.mark.parametrize("checkpoint", [4000, 30])
async def test_a_power_failure_loses_nothing_that_was_acknowledged(
    tmp_path: Path, lucky: bool, checkpoint: int
) -> None:
    for found, notes in power_failures(tmp_path, "--wal_autocheckpoint", checkpoint, lucky=lucky):
        async with SQLiteStore(found / "threads.db", clock=lambda: 0.0) as store:
            assert await missing(store, notes) == []
            await check_threads(store, epochs_of(notes))


async def test_the_power_failure_test_finds_what_synchronous_normal_loses(tmp_path: Path) -> None:
    lost = 0
    for found, notes in power_failures(tmp_path, "--synchronous", "NORMAL", lucky=False):
        async with SQLiteStore(found / "threads.db", clock=lambda: 0.0) as store:
            lost += len(await missing(store, notes)) > 0
    assert lost >= 15
