"""Engines that are broken on purpose: the simulations find each of them out.

What a mutant does wrong is what one might do wrong; a simulation that lets it pass proves nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.support import simulation, simulation_nodes
from tests.support.shared_store import Hub, NodeStore
from threadwire.core.errors import StoreUnavailable
from threadwire.endpoints import assistant, stock
from threadwire.engine.followed import Followed, FollowedIntake
from threadwire.engine.guests import Guests
from threadwire.engine.intake import Intake
from threadwire.engine.nodes import Nodes
from threadwire.engine.orphans import Orphans
from threadwire.engine.runner import Runner
from threadwire.engine.store import Append, Done
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads

SEEDS = 600
"""Within so many it is found out."""

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]


def shows_before_it_is_durable(patch: Patch) -> None:
    def cut(thread: Thread) -> None:
        real_cut(thread)
        if thread._inflight is not None and thread._inflight.update is not None:
            for subscriber in thread.subscribers:
                subscriber.update(thread._inflight.update)
            thread._inflight.update = None

    real_cut = Thread._cut
    patch.setattr(Thread, "_cut", cut)


def lets_old_owners_change_records(patch: Patch) -> None:
    def append(hub: Hub, node: str, entry: Any, version: int) -> Exception | None:
        held = hub.disk._threads.get(entry.thread)
        if held is not None and held.epoch > entry.epoch and entry.data is None:
            entry = msgspec.structs.replace(entry, epoch=held.epoch, seq=held.head)
            version = hub.lease(entry.thread).version
        return real_append(hub, node, entry, version)

    real_append = Hub.append
    patch.setattr(Hub, "append", append)


def moves_readers_to_another_place(patch: Patch) -> None:
    async def begin_to_follow(nodes: Nodes, id: str, place: Any, run: Any) -> Any:
        return await real_begin(nodes, id, None, None)

    def take_over(thread: Thread, other: Thread, *, resumes: bool) -> None:
        real_take_over(thread, other, resumes=True)

    real_begin, real_take_over = Nodes._begin_to_follow, Thread.take_over
    patch.setattr(Nodes, "_begin_to_follow", begin_to_follow)
    patch.setattr(Thread, "take_over", take_over)


def lets_late_attempts_write(patch: Patch) -> None:
    def append(hub: Hub, node: str, entry: Any, version: int) -> Exception | None:
        return real_append(hub, node, entry, hub.lease(entry.thread).version)

    real_append = Hub.append
    patch.setattr(Hub, "append", append)


def takes_threads_again_without_a_new_epoch(patch: Patch) -> None:
    def take(hub: Hub, node: str, thread: str, agent: str | None, now: float, anew: bool) -> Any:
        return real_take(hub, node, thread, agent, now, False)

    real_take = Hub.take
    patch.setattr(Hub, "take", take)


def answers_from_the_past(patch: Patch) -> None:
    async def be_current(thread: Thread) -> None:
        pass

    patch.setattr(Thread, "be_current", be_current)
    patch.setattr(Followed, "be_current", be_current)


def skips_rows_that_it_follows(patch: Patch) -> None:
    def fold(followed: Followed, progress: Any) -> bool:
        if len(progress.rows) > 2:
            progress = msgspec.structs.replace(progress, rows=[*progress.rows[:1], *progress.rows[2:]])
        return real_fold(followed, progress)

    def fold_row(followed: Followed, row: Any) -> None:
        followed._history.head = row.seq - 1
        real_fold_row(followed, row)

    real_fold, real_fold_row = Followed.fold, Followed._fold_row
    patch.setattr(Followed, "fold", fold)
    patch.setattr(Followed, "_fold_row", fold_row)


def takes_rows_of_the_bus_as_they_come(patch: Patch) -> None:
    def push(followed: Followed, row: Any) -> bool:
        followed._fold_row(row)
        return True

    patch.setattr(Followed, "push", push)


def sends_rows_without_what_changed_beside_them(patch: Patch) -> None:
    def wrote(guests: Guests, entry: Any) -> None:
        real_wrote(guests, msgspec.structs.replace(entry, commands=(), run=None))

    real_wrote = Guests.wrote
    patch.setattr(Guests, "wrote", wrote)


def overlooks_what_the_bus_lost(patch: Patch) -> None:
    async def look_at_followed(nodes: Nodes) -> None:
        pass

    patch.setattr(Nodes, "_look_at_followed", look_at_followed)


def follows_on_under_the_old_epoch(patch: Patch) -> None:
    def fold_row(followed: Followed, row: Any) -> None:
        real_fold_row(followed, msgspec.structs.replace(row, epoch=followed.epoch))

    real_fold_row = Followed._fold_row
    patch.setattr(Followed, "_fold_row", fold_row)


def trusts_its_lease_for_ever(patch: Patch) -> None:
    async def confirm(guests: Guests, *, anew: bool = False) -> None:
        pass

    patch.setattr(Guests, "confirm", confirm)


def leaves_its_readers_when_it_is_fenced(patch: Patch) -> None:
    patch.setattr(Nodes, "replace", lambda nodes, thread: None)


def forgets_the_run_that_it_takes_over(patch: Patch) -> None:
    def recover(runner: Runner) -> None:
        assert runner._owned is not None
        runner._owned = msgspec.structs.replace(runner._owned, run=None)
        real_recover(runner)

    real_recover = Runner.recover
    patch.setattr(Runner, "recover", recover)


def takes_silence_for_success(patch: Patch) -> None:
    def appended(thread: Thread, error: Exception | None) -> None:
        real_appended(thread, None if isinstance(error, StoreUnavailable) else error)

    real_appended = Thread._appended
    patch.setattr(Thread, "_appended", appended)


def stores_effects_before_the_statuses_of_their_commands(patch: Patch) -> None:
    def append(store: NodeStore, entry: Append, done: Done) -> None:
        if entry.data is None or not entry.commands:
            real_append(store, entry, done)
            return
        statuses = msgspec.structs.replace(entry, data=None, run=None, notes=())

        def go_on(error: Exception | None) -> None:
            if error is not None:
                done(error)
            else:
                real_append(store, statuses, done)

        real_append(store, msgspec.structs.replace(entry, commands=()), go_on)

    real_append = NodeStore.append
    patch.setattr(NodeStore, "append", append)


def takes_commands_of_others_twice(patch: Patch) -> None:
    patch.setattr(Intake, "is_new", lambda intake, id: True)


def acknowledges_before_it_is_durable(patch: Patch) -> None:
    async def submit(store: NodeStore, thread: str, command: str, body: bytes, **options: Any) -> Any:
        from threadwire.engine.store import CommandRecord, Submission

        store._spawn(_quietly(real_submit(store, thread, command, body, **options)))
        return Submission(CommandRecord(id=command, order=0, body=body, status="queued"), created=True)

    real_submit = NodeStore.submit
    patch.setattr(NodeStore, "submit", submit)


async def _quietly(work: Any) -> None:
    try:
        await work
    except Exception:
        return


async def _nothing(orphans: Orphans, ids: list[str]) -> None:
    pass


def forgets_who_watches_when_the_role_changes(patch: Patch) -> None:
    def watch_on(threads: Threads, thread: Thread, lost: Thread) -> None:
        pass

    def learned(intake: FollowedIntake, state: Any) -> None:
        pass

    patch.setattr(FollowedIntake, "learned", learned)
    patch.setattr(Threads, "watch_on", watch_on)


def leaves_orphans(patch: Patch) -> None:
    patch.setattr(Orphans, "_take", _nothing)
    patch.setattr(Nodes, "promote", lambda nodes, followed: None)


def fails_requests_whose_thread_moves(patch: Patch) -> None:
    async def once(call: Callable[[], Any]) -> Any:
        return await call()

    patch.setattr(assistant, "again", once)
    patch.setattr(stock, "again", once)


MUTANTS: tuple[Mutant, ...] = (
    shows_before_it_is_durable,
    lets_old_owners_change_records,
    moves_readers_to_another_place,
    lets_late_attempts_write,
    takes_threads_again_without_a_new_epoch,
    answers_from_the_past,
    skips_rows_that_it_follows,
    takes_rows_of_the_bus_as_they_come,
    sends_rows_without_what_changed_beside_them,
    overlooks_what_the_bus_lost,
    follows_on_under_the_old_epoch,
    trusts_its_lease_for_ever,
    leaves_its_readers_when_it_is_fenced,
    forgets_the_run_that_it_takes_over,
    takes_silence_for_success,
    stores_effects_before_the_statuses_of_their_commands,
    takes_commands_of_others_twice,
    acknowledges_before_it_is_durable,
    leaves_orphans,
    forgets_who_watches_when_the_role_changes,
    fails_requests_whose_thread_moves,
)


# What a broken engine leaves behind is its own affair.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_engine_is_found_out(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    assert _is_found_out(simulation_nodes.simulate)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_simulation_of_one_node_finds_out_what_is_shown_before_it_is_durable(monkeypatch: Patch) -> None:
    shows_before_it_is_durable(monkeypatch)
    assert _is_found_out(simulation.simulate)


def _is_found_out(simulate: Callable[[int], None]) -> bool:
    try:
        return any(_is_found(simulate, seed) for seed in range(SEEDS))
    finally:
        gc.collect()  # what complains when it is collected does so here, and not in another test


def _is_found(simulate: Callable[[int], None], seed: int) -> bool:
    try:
        simulate(seed)
    except Exception as error:
        return f"seed {seed}" in "".join(error.__notes__)  # it says how to play it again
    return False
