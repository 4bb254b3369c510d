"""Several nodes on one store: what is promised holds on each of them, whoever owns a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

import threadwire
from tests.support.engine import Commands, Reader, follow, say
from tests.support.faulty_store import at_once
from tests.support.shared_store import Hub, Links, NodeStore
from tests.support.virtual_time import in_virtual_time
from threadwire.core.codec import encode_log
from threadwire.core.frames import Limits, Tool
from threadwire.core.operations import Set
from threadwire.engine import signals
from threadwire.engine.agent import Agent, as_agent
from threadwire.engine.context import Sent
from threadwire.engine.followed import Followed
from threadwire.engine.runner import Runner
from threadwire.engine.settings import Settings
from threadwire.engine.shared import Place, Progress
from threadwire.engine.signals import Row, Rows
from threadwire.engine.threads import Threads, again


@threadwire.agent
async def counting(run: threadwire.Run) -> None:
    """Says back each message, then counts, slowly where it is told so."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        run.state.setdefault("said", []).append(text)
        run.state["count"] = ""
        if text.startswith("count"):
            for number in range(int(text.split()[1])):
                run.append_text(("count",), f"{number} ")
                await asyncio.sleep(0.1)
        elif text == "hang":
            await asyncio.Event().wait()
        elif text == "tool":
            result = await run.call_client_tool("look", {"at": 1})
            run.state["seen"] = result.result
        elif text == "ask":
            run.state["answer"] = await run.interrupt("well?")


class Node:
    def __init__(self, threads: Threads, store: NodeStore) -> None:
        self.threads = threads
        self.store = store

    async def get(self, id: str = "t") -> Any:
        return await self.threads.get(id)

    def crash(self) -> None:
        """From here on nothing that it does reaches anyone."""
        self.store.crash()
        self.threads.draining = True


@asynccontextmanager
async def nodes(count: int, hub: Hub, agent: Any = counting, **settings: Any) -> AsyncIterator[list[Node]]:
    made = as_agent(agent)
    assert isinstance(made, Agent)
    stores = [hub.node() for _ in range(count)]
    async with AsyncExitStack() as stack:
        running = []
        for store in stores:
            await stack.enter_async_context(store)
            stack.push_async_callback(store.end)
            numbers = iter(range(10**6))
            prefix = store.node
            options = Settings(
                clock=lambda: 1_000_000 + asyncio.get_running_loop().time(),
                new_id=lambda numbers=numbers, prefix=prefix: f"{prefix}-{next(numbers)}",  # type: ignore[misc]
                **settings,
            )
            threads = Threads(agents={made.name: made}, store=store, settings=options)
            await stack.enter_async_context(threads)
            running.append(Node(threads, store))
        yield running


async def send(node: Node, text: str, id: str = "c1", **options: Any) -> Commands:
    watcher = Commands()
    thread = await node.get()
    await thread.submit(id, say(text), strategy=options.pop("strategy", None), watcher=watcher, **options)
    return watcher


def _tools(reader: Reader) -> list[Tool]:
    return [frame for frame in reader.frames if isinstance(frame, Tool)]


async def tool_frames(reader: Reader, within_s: float = 5) -> list[Tool]:
    """The calls that it was given, once there is one."""
    with anyio.fail_after(within_s):
        while not _tools(reader):
            await asyncio.sleep(0.1)
    return _tools(reader)


def _count_readings(store: NodeStore) -> list[int]:
    readings: list[int] = []
    follow = store.follow

    async def counted(places: Sequence[Place], *, rows: int) -> dict[str, Progress]:
        readings.append(len(places))
        return await follow(places, rows=rows)

    store.follow = counted  # type: ignore[method-assign]
    return readings


@in_virtual_time
async def test_the_node_that_opens_a_thread_first_owns_it_and_others_follow() -> None:
    async with nodes(3, Hub()) as (first, second, third):
        assert not isinstance(await first.get(), Followed)
        assert isinstance(await second.get(), Followed)
        assert isinstance(await third.get(), Followed)


@in_virtual_time
async def test_readers_of_every_node_see_each_update_of_a_run_and_its_end() -> None:
    hub = Hub()
    async with nodes(3, hub) as running:
        readers = [await follow(await node.get(), "msgpack") for node in running]
        await send(running[0], "count 5")
        for reader in readers:
            await reader.until_run("completed")
            assert reader.state == {"said": ["count 5"], "count": "0 1 2 3 4 "}
            assert [run and run.status for run in reader.runs] == [None, "running", "completed"]
            assert reader.position == readers[0].position
        assert len(readers[1].frames) > 4, "it was not seen as it happened"


@in_virtual_time
async def test_rows_go_to_followers_over_the_bus_and_are_not_read_from_the_store() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await owner.get()
        readings = _count_readings(other.store)
        reader = await follow(await other.get(), "msgpack")
        await send(owner, "count 50")
        await reader.until(lambda: reader.state.get("count", "").startswith("0 1 2 "))
        readings.clear()
        await reader.until(lambda: reader.state["count"].endswith(" 48 "))
        assert not readings
        await reader.until_run("completed")
        assert reader.state["count"].endswith(" 49 ")


@in_virtual_time
async def test_a_large_row_is_read_from_the_store_and_those_after_it_come_over_the_bus_again() -> None:
    @threadwire.agent
    async def wordy(run: threadwire.Run) -> None:
        run.state["text"] = ""
        for word in ("a", "b" * 20_000, "c", "d"):
            run.append_text(("text",), word)
            await asyncio.sleep(0.1)

    async with nodes(2, Hub(), wordy) as (owner, other):
        await owner.get()
        readings = _count_readings(other.store)
        reader = await follow(await other.get(), "msgpack")
        await send(owner, "go")
        await reader.until(lambda: reader.state.get("text") == "a")
        readings.clear()
        await reader.until(lambda: reader.state["text"].endswith("d"))
        assert len(readings) == 1
        assert len(reader.state["text"]) == 20_003


@in_virtual_time
async def test_rows_that_come_late_twice_or_not_at_all_are_seen_once_and_in_order() -> None:
    links = Links(lost=0.3, twice=0.5, delays_s=(0.0, 0.02, 0.3, 1.0))
    async with nodes(3, Hub(links=links)) as running:
        readers = [await follow(await node.get(), "msgpack") for node in running]
        await send(running[0], "count 30")
        for reader in readers:
            await reader.until_run("completed")
            assert reader.state["count"] == "".join(f"{number} " for number in range(30))


@in_virtual_time
async def test_a_row_is_not_shown_where_something_may_have_come_before_it() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await owner.get()
        reader = await follow(await other.get(), "msgpack")
        await send(owner, "count 3")
        await reader.until_run("completed")
        followed = await other.get()
        (epoch, seq), version = followed.position, followed.version
        data = encode_log([Set(("shown",), True)])
        unlike = {
            "version": version + 2,
            "seq": seq + 2,
            "epoch": epoch + 1,
        }  # its run's end, a row, an owner
        for field, value in unlike.items():
            row = Row("t", epoch, seq + 1, version + 1, data)
            assert not followed.push(msgspec.structs.replace(row, **{field: value}))
        for row in (Row("t", epoch - 1, seq + 1, version + 1, data), Row("t", epoch, seq + 1, version, data)):
            assert followed.push(row), "there is nothing to be read for it"
        followed.reading = True
        followed.push(Row("t", epoch, seq + 1, version + 1, data))
        assert followed.position == reader.position == (epoch, seq)


@in_virtual_time
async def test_a_row_of_an_earlier_owner_that_comes_late_is_passed_over() -> None:
    hub = Hub(links=Links(delays_s=(0.01,)))
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get(), "msgpack")
        await send(owner, "count 5")
        await reader.until_run("completed")
        followed = await other.get()
        epoch, seq = followed.position
        late = Row("t", epoch, seq, followed.version, encode_log(()))
        hub.lease("t").until = -1
        await hub.rob("t")
        await followed.flush()
        assert followed.epoch > epoch
        readings = _count_readings(other.store)
        hub.peers[owner.store.node].send(other.store.node, signals.write(Rows(rows=[late])) or "")
        await asyncio.sleep(2)
        assert len(readings) < 10, "it is read again and again"


@in_virtual_time
async def test_a_thread_made_anew_under_the_same_name_is_not_taken_for_the_one_before() -> None:
    hub = Hub()
    async with nodes(2, hub) as (owner, other):
        await (await send(owner, "hello")).until("c1", "applied")
        reader = await follow(await other.get())
        assert reader.state["said"] == ["hello"]
        hub.links.lost = 1
        assert await owner.threads.delete("t")
        await (await send(owner, "another")).until("c1", "applied")
        await reader.until(lambda: bool(reader.lost_subscribers) or reader.state["said"] == ["another"])


@in_virtual_time
async def test_a_follower_that_goes_on_from_the_past_shows_no_state_before_it_has_read_on() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await (await send(owner, "hello")).until("c1", "applied")
        head = (await owner.get()).committed
        record = await other.store.thread("t")
        assert record is not None
        assert other.threads.nodes is not None
        behind = await other.threads.nodes._load_past(record, 0, None)
        assert behind is not None
        waiting = asyncio.ensure_future(behind.snapshot("json"))
        await asyncio.sleep(1)
        assert (behind.committed, waiting.done()) == (0, False)
        await other.threads.nodes.read(behind)
        assert (await waiting).seq == head > 0


@in_virtual_time
async def test_a_snapshot_is_the_owners_to_store() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await owner.get()
        reader = await follow(await other.get(), "msgpack")
        for number in range(30):
            watcher = await send(owner, f"hello {number}", id=f"c{number}")
            await watcher.until(f"c{number}", "applied")
        await reader.until(lambda: len(reader.state["said"]) == 30)
        assert (await owner.get()).worth_storing
        assert (await other.get()).storing.worthwhile
        assert not (await other.get()).worth_storing


@in_virtual_time
async def test_a_command_of_a_followers_client_is_done_by_the_owner_and_told_of() -> None:
    hub = Hub()
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        watcher = await send(other, "hello")
        await watcher.until("c1", "applied")
        assert watcher.of("c1")[0] == "queued"
        await reader.until_run("completed")
        assert reader.state == {"said": ["hello"], "count": ""}
        assert {node for node, _ in hub.appends} == {owner.store.node}


@in_virtual_time
async def test_the_same_command_on_two_nodes_is_done_once_and_answered_alike() -> None:
    hub = Hub()
    async with nodes(3, hub) as running:
        watchers = await asyncio.gather(*[send(node, "hello") for node in running])
        states = [await watcher.until("c1", "applied") for watcher in watchers]
        assert len({state.seq for state in states}) == 1
        reader = await follow(await running[2].get())
        await reader.until_run("completed")
        assert reader.state["said"] == ["hello"]


@in_virtual_time
async def test_another_body_under_the_id_is_refused_on_every_node() -> None:
    async with nodes(2, Hub()) as running:
        await (await send(running[0], "hello")).until("c1", "applied")
        for node in running:
            with pytest.raises(threadwire.Refused) as refused:
                await send(node, "other")
            assert refused.value.code == "command-id-reused"


@in_virtual_time
async def test_without_the_bus_all_comes_within_seconds() -> None:
    hub = Hub(links=Links(lost=1))
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        began = hub.now()
        watcher = await send(other, "hello")
        await watcher.until("c1", "applied")
        await reader.until_run("completed")
        assert hub.now() - began < 3


@in_virtual_time
async def test_a_run_whose_owner_crashed_is_ended_by_another_node_within_the_lease_and_a_second() -> None:
    hub = Hub(lease_s=2)
    async with nodes(3, hub) as running:
        owner, *others = running
        await owner.get()
        readers = [await follow(await node.get()) for node in others]
        await send(owner, "count 1000")
        for reader in readers:
            await reader.until(lambda reader=reader: "5 " in (reader.state or {}).get("count", ""))  # type: ignore[misc]
        owner.crash()
        began = hub.now()
        for reader in readers:
            info = await reader.until_run("failed")
            assert info.error is not None
            assert info.error.code == "interrupted-by-crash"
            assert "5 " in reader.state["count"]
            assert not reader.lost_subscribers
        # Whoever takes it sees the lease end, and the others are told who it is.
        assert hub.now() - began < 2 + 0.2
        watcher = await send(others[0], "hello", "c2")
        await watcher.until("c2", "applied")
        for reader in readers:
            await reader.until_run("completed")
            assert reader.state["said"] == ["count 1000", "hello"]


@in_virtual_time
async def test_all_that_a_crashed_node_had_is_taken_up_within_the_lease_and_a_second() -> None:
    hub = Hub(lease_s=2, links=Links(delays_s=(0.005,)))
    async with nodes(3, hub) as (owner, *others):
        for number in range(100):
            thread = await owner.get(f"t{number}")
            await thread.submit("c", say("hang"), strategy=None, watcher=Commands())
        for number in range(100):
            reader = await follow(await owner.get(f"t{number}"))
            await reader.until(lambda reader=reader: (reader.state or {}).get("said") == ["hang"])  # type: ignore[misc]
        owner.crash()
        began = hub.now()
        with anyio.fail_after(10):
            while at_once(hub.disk.unfinished()):
                await asyncio.sleep(0.05)
        assert hub.now() - began < 2 + 1
        assert all(len(node.threads.loaded()) > 10 for node in others), "one node has taken them all"


@in_virtual_time
async def test_a_thread_that_a_node_has_without_knowing_is_taken_by_it_when_a_command_comes() -> None:
    hub = Hub(lease_s=60)
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        owner.crash()
        hub.lease("t").until = -1
        hub.take(other.store.node, "t", None, 0.0, True)  # whose answer was lost
        await (await other.get()).flush()
        await (await send(other, "hello")).until("c1", "applied")
        await reader.until_run("completed")


@in_virtual_time
async def test_a_thread_that_can_not_be_taken_up_at_first_is_taken_up_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(lease_s=2)
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        await send(owner, "count 1000")
        await reader.until_run("running")
        owner.crash()
        recover = Runner.recover

        def fail(runner: Runner) -> None:
            raise RuntimeError("it can't be read")

        monkeypatch.setattr(Runner, "recover", fail)
        await reader.until(lambda: bool(reader.lost_subscribers))
        assert other.threads.loaded_as("t") is None, "what could not begin is used"
        monkeypatch.setattr(Runner, "recover", recover)
        await asyncio.sleep(35)
        reader = await follow(await other.get())
        assert reader.runs[-1] is not None
        assert reader.runs[-1].status == "failed"
    assert "it can't be read" in caplog.text


@in_virtual_time
async def test_a_node_whose_own_leases_have_ended_does_not_look_for_orphans_again_and_again() -> None:
    hub = Hub(links=Links(delays_s=(0.01,)))
    async with nodes(1, hub) as (node,):
        for number in range(20):
            thread = await node.get(f"t{number}")
            await thread.submit("c", say("hang"), strategy=None, watcher=Commands())
        await asyncio.sleep(2)
        looks: list[int] = []
        orphans = node.store.orphans

        async def counted(agents: Sequence[str], *, limit: int) -> list[str]:
            found = await orphans(agents, limit=limit)
            looks.append(len(found))
            return found

        async def nothing(epochs: Mapping[str, int]) -> set[str]:
            await asyncio.sleep(0.1)
            return set(epochs)

        node.store.orphans = counted  # type: ignore[method-assign]
        node.store.renew = nothing  # type: ignore[method-assign]
        for lease in hub.leases.values():
            lease.until = -1
        await asyncio.sleep(5)
        assert any(looks)
        assert len(looks) < 20


@in_virtual_time
async def test_a_long_outage_of_the_store_is_a_few_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    hub = Hub()
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        hub.out = True
        await asyncio.sleep(600)
        hub.out = False
        await asyncio.sleep(10)
        assert len(caplog.records) < 30
        assert "renew: the store answers again" in caplog.text
        await send(owner, "count 3")
        await reader.until_run("completed")


@in_virtual_time
async def test_a_command_whose_owner_is_gone_is_done_by_the_node_that_took_it() -> None:
    hub = Hub(lease_s=2)
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        owner.crash()
        watcher = await send(other, "hello")
        await watcher.until("c1", "applied")
        await reader.until(lambda: reader.state == {"said": ["hello"], "count": ""})
        assert not isinstance(await other.get(), Followed)
        assert not reader.lost_subscribers


@in_virtual_time
async def test_a_paused_owner_writes_nothing_more_and_its_readers_follow_the_new_one() -> None:
    hub = Hub(lease_s=2)
    async with nodes(2, hub) as (owner, other):
        stale = await follow(await owner.get())
        reader = await follow(await other.get())
        await send(owner, "count 1000")
        await stale.until(lambda: "3 " in (stale.state or {}).get("count", ""))
        owner.store.pause()
        await reader.until_run("failed")
        shown = stale.position
        await (await send(other, "hello", "c2")).until("c2", "applied")
        await asyncio.sleep(5)
        assert stale.position == shown, "what it can't know to be durable was shown"
        owner.store.resume()
        await stale.until(lambda: stale.position == reader.position)
        assert stale.state == reader.state
        assert stale.state["said"] == ["count 1000", "hello"]
        assert isinstance(await owner.get(), Followed)
        assert not stale.lost_subscribers
        assert [run and run.status for run in stale.runs] == [None, "running", "failed", "completed"]
        assert not await owner.threads.store.thread("u")


@in_virtual_time
async def test_a_fenced_owner_that_reaches_nobody_tells_of_its_commands_once_it_does() -> None:
    hub = Hub(links=Links(delays_s=(0.01,)), lease_s=2)
    async with nodes(2, hub, store_patience_s=1) as (owner, other):
        reader = await follow(await owner.get())
        watcher = await send(owner, "count 1000")
        await watcher.until("c1", "applied")
        await (await owner.get()).submit("c2", say("hello"), strategy=None, watcher=watcher)
        fenced = await owner.get()
        await other.get()
        owner.store.pause()
        await asyncio.sleep(5)  # the other takes it up, and does what is queued
        owner.store.resume()
        with anyio.fail_after(5):
            while not fenced.closed:
                await asyncio.sleep(0.001)
        owner.store.cut = True
        with anyio.fail_after(5):
            while not reader.lost_subscribers:  # nor can it follow
                await asyncio.sleep(0.1)
        assert watcher.of("c2") == ["queued"]
        owner.store.cut = False
        await watcher.until("c2", "applied")


@in_virtual_time
async def test_cancel_on_a_follower_ends_the_run_at_the_owner() -> None:
    for links in (Links(), Links(lost=0.5, twice=0.5, delays_s=(0.0, 0.1))):
        hub = Hub(links=links)
        async with nodes(2, hub) as (owner, other):
            await owner.get()
            reader = await follow(await other.get())
            await send(other, "hang")
            await reader.until_run("running")
            ended = await (await other.get()).runner.cancel(None)
            assert ended is not None
            assert ended.status == "cancelled"
            await reader.until_run("cancelled")


@in_virtual_time
async def test_a_repeated_cancel_does_not_stop_the_run_that_came_after() -> None:
    hub = Hub(links=Links(twice=1, delays_s=(0.0, 0.2, 1.0)))
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        await send(other, "hang")
        await reader.until_run("running")
        await (await other.get()).runner.cancel(None)
        watcher = await send(owner, "count 30", "c2")
        await watcher.until("c2", "applied")
        await reader.until_run("completed")


@in_virtual_time
async def test_a_tool_call_is_given_to_the_connection_on_another_node_whose_command_began_the_run() -> None:
    for links in (Links(), Links(lost=0.5, twice=0.3)):
        hub = Hub(links=links)
        async with nodes(2, hub) as (owner, other):
            # With messages lost, the owner may not know yet of who is elsewhere.
            near = await follow(await owner.get(), tools=() if links.lost else ("look",))
            asking, idle = Reader(), Reader()
            thread = await other.get()
            await thread.subscribe(idle, tools=("look",))
            await thread.subscribe(asking, tools=("look",))
            await send(other, "tool", origin=asking)
            (frame,) = await tool_frames(asking, within_s=60)
            assert (frame.name, frame.args) == ("look", {"at": 1})
            result = {"type": "add-tool-result", "toolCallId": frame.tool_call_id, "result": "a hat"}
            await thread.submit("r1", result, strategy=None, watcher=Commands())
            await asking.until_run("completed")
            assert asking.state["seen"] == "a hat"
            await asyncio.sleep(3)
            assert [len(_tools(reader)) for reader in (near, idle, asking)] == [0, 0, 1]


@in_virtual_time
async def test_a_tool_call_of_a_node_that_is_gone_is_given_to_another() -> None:
    hub = Hub()
    async with nodes(3, hub, tool_grace_s=1) as (owner, other, third):
        await owner.get()
        first, second = Reader(), Reader()
        thread = await other.get()
        await thread.subscribe(first, tools=("look",))
        await send(other, "tool", origin=first)
        await tool_frames(first)
        await (await third.get()).subscribe(second, tools=("look",))
        other.crash()
        await tool_frames(second, within_s=30)


@in_virtual_time
async def test_draining_gives_threads_to_the_others_at_once_and_no_run_is_lost() -> None:
    hub = Hub()
    async with nodes(2, hub) as (owner, other):
        here, there = await follow(await owner.get()), await follow(await other.get())
        await send(owner, "count 20")
        await there.until_run("running")
        queued = await send(other, "hello", "c2")
        owner.threads.draining = True
        await owner.threads.drain(10)
        await queued.until("c2", "applied")
        for reader in (here, there):
            await reader.until(lambda reader=reader: reader.state["said"] == ["count 20", "hello"])  # type: ignore[misc]
            assert not reader.lost_subscribers
        assert not isinstance(await other.get(), Followed)
        statuses = [run.status for run in there.runs if run is not None]
        assert statuses[:2] == ["running", "completed"]


@in_virtual_time
async def test_a_deleted_thread_is_gone_on_every_node() -> None:
    for lost in (0, 1):
        hub = Hub(links=Links(lost=lost))
        async with nodes(3, hub) as (owner, other, third):
            readers = [await follow(await node.get()) for node in (owner, other, third)]
            await send(owner, "hello")
            if lost:
                await readers[0].until_run("completed")
            assert await other.threads.delete("t")
            for reader in readers:
                await reader.until(lambda reader=reader: bool(reader.lost_subscribers))  # type: ignore[misc]
                assert reader.frames[-1].code == "not-found"
            assert await third.threads.find("t") is None
            again = await owner.get()
            assert (await follow(again)).state == {}


@in_virtual_time
async def test_a_thread_that_nobody_uses_is_given_away() -> None:
    hub = Hub()
    async with nodes(2, hub, idle_s=1) as (owner, other):
        await (await send(owner, "hello")).until("c1", "applied")
        await asyncio.sleep(3)
        assert hub.owner("t") is None
        assert not isinstance(await other.get(), Followed)


@in_virtual_time
async def test_an_interrupt_is_answered_from_another_node() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        await send(other, "ask")
        await reader.until_run("waiting")
        (question,) = reader.state["threadwire"]["interrupts"]
        thread = await other.get()
        await thread.submit(
            "a", {"type": "resume", "answers": {question: 42}}, strategy=None, watcher=Commands()
        )
        await reader.until_run("completed")
        assert reader.state["answer"] == 42


@in_virtual_time
async def test_strategies_of_commands_on_other_nodes_are_followed() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await owner.get()
        await follow(await other.get())
        await (await send(other, "hang")).until("c1", "running", "applied")
        rejected = await (await send(other, "no", "c2", strategy="reject")).until("c2", "rejected")
        assert rejected.error is not None
        assert rejected.error.code == "thread-busy"
        watcher = await send(other, "yes", "c3", strategy="interrupt")
        await watcher.until("c3", "applied")


@in_virtual_time
async def test_a_reader_of_a_follower_resumes_where_it_was_on_another_node() -> None:
    async with nodes(3, Hub()) as running:
        await send(running[0], "count 10")
        reader = await follow(await running[1].get())
        await reader.until(lambda: "3 " in (reader.state or {}).get("count", ""))
        assert reader.position is not None
        epoch, seq = reader.position
        for subscriber in list((await running[1].get()).subscribers):
            subscriber.thread.unsubscribe(subscriber)
        thread = await running[2].get()
        count = len(reader.frames)
        await thread.subscribe(reader, since={"epoch": epoch, "seq": seq})
        await reader.until_run("completed")
        kinds = {type(frame).__name__ for frame in reader.frames[count:]}
        assert "Snapshot" not in kinds


# what a follower asks of an owner


@in_virtual_time
async def test_cancel_reaches_the_owner_by_the_store_where_the_bus_brings_nothing() -> None:
    hub = Hub(links=Links(lost=1))
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        await send(other, "hang")
        await reader.until_run("running")
        began = hub.now()
        ended = await (await other.get()).runner.cancel(None)
        assert ended is not None
        assert ended.status == "cancelled"
        assert hub.now() - began < 4
        assert not hub.mail, "what was left was taken"
        await (await send(owner, "count 30", "c2")).until("c2", "applied")
        await reader.until_run("completed")


@in_virtual_time
async def test_cancel_waits_as_long_as_the_lease_of_an_owner_that_is_gone() -> None:
    hub = Hub(lease_s=30)
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        reader = await follow(await other.get())
        await send(owner, "hang")
        await reader.until_run("running")
        owner.crash()

        async def cancel() -> Any:
            return await (await other.get()).runner.cancel(None)

        ended = await again(cancel)
        assert ended is not None
        assert ended.status == "failed"


@in_virtual_time
async def test_a_thread_that_is_about_to_be_another_object_is_waited_for() -> None:
    hub = Hub(links=Links(delays_s=(0.3,)))
    async with nodes(2, hub) as (owner, other):
        thread = await owner.get()
        await send(owner, "count 5")
        draining = asyncio.ensure_future(owner.threads.drain(0))
        with anyio.fail_after(20):
            while not thread.closed:
                await asyncio.sleep(0.01)
        assert owner.threads.loaded_as("t") is thread
        found = await owner.threads.find("t")
        assert found is not None
        assert found is not thread
        await found.be_current()
        await draining
        await other.get()


@in_virtual_time
async def test_who_watches_a_command_is_told_of_it_however_often_the_thread_moves() -> None:
    hub = Hub(links=Links(delays_s=(0.1,)))
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        await follow(await other.get())
        await (await send(other, "hang")).until("c1", "applied")
        watcher = await send(other, "hello", "c2")
        for _ in range(3):  # it is read anew, before those who watch could be told
            other.threads.nodes._restart(await other.get())  # type: ignore[union-attr]
        assert (await other.get()).intake.watched == ("c2",)
        await (await owner.get()).runner.cancel(None)
        await watcher.until("c2", "cancelled")


@in_virtual_time
async def test_who_watches_a_command_over_again_is_told_its_end_as_such() -> None:
    hub = Hub(links=Links(delays_s=(0.01,)))
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        await follow(await other.get())
        await (await send(owner, "hello")).until("c1", "applied")
        first = await other.get()
        watcher = await send(other, "hello")
        assert watcher.of("c1") == ["applied"]
        first.intake._watchers["c1"] = [watcher]  # as of an object that was lost before it could tell
        other.threads.nodes._restart(first)  # type: ignore[union-attr]
        await asyncio.sleep(3)
        assert [(each.status, each.duplicate) for each in watcher.seen] == [("applied", True)] * 2


def seeds(*texts: str) -> list[dict[str, Any]]:
    return [{"said": [text], "more": [text] * 3} for text in texts]


@in_virtual_time
async def test_a_first_state_that_a_followers_client_has_is_the_owners_to_write() -> None:
    for links in (Links(), Links(lost=0.5, twice=0.5, delays_s=(0.0, 0.1)), Links(lost=1)):
        for text in ("small", "l" * 100_000):
            hub = Hub(links=links)
            async with nodes(2, hub) as (owner, other):
                await owner.get()
                thread = await other.get()
                (seed,) = seeds(text)
                await thread.seed(seed)
                assert (await follow(thread)).state == seed
                assert {node for node, _ in hub.appends} == {owner.store.node}
                await thread.seed({"another": 1})
                assert (await follow(await owner.get())).state == seed


@in_virtual_time
async def test_of_two_first_states_one_is_taken_and_whoever_comes_later_sees_that() -> None:
    for delays in ((0.0,), (0.0, 0.1), (0.0, 1.5)):
        hub = Hub(links=Links(delays_s=delays))
        async with nodes(3, hub) as running:
            given = seeds("a", "b", "c")

            async def seed(node: Node, state: dict[str, Any]) -> None:
                async def work() -> None:
                    await (await node.get()).seed(state)

                await again(work)

            await asyncio.gather(*map(seed, running, given))
            states = [(await follow(await node.get())).state for node in running]
            assert states[0] in given
            assert states == [states[0]] * 3
            assert len(hub.appends) == 1


@in_virtual_time
async def test_a_first_state_is_taken_though_the_owner_is_gone() -> None:
    hub = Hub(lease_s=2)
    async with nodes(2, hub) as (owner, other):
        await owner.get()
        thread = await other.get()
        owner.crash()
        (seed,) = seeds("a")

        async def work() -> None:
            await (await other.get()).seed(seed)

        await again(work)
        assert thread.closed
        assert (await follow(await other.get())).state == seed


@in_virtual_time
async def test_a_first_state_that_is_too_large_is_refused_where_it_comes_from() -> None:
    async with nodes(2, Hub(), limits=Limits(max_state_bytes=1000)) as (owner, other):
        await owner.get()
        with pytest.raises(threadwire.Refused) as refused:
            await (await other.get()).seed({"text": "x" * 2000})
        assert refused.value.code == "state-too-large"


@in_virtual_time
async def test_a_thread_with_commands_takes_no_first_state() -> None:
    async with nodes(2, Hub()) as (owner, other):
        await owner.get()
        await other.get()
        await (await send(owner, "hello")).until("c1", "queued")
        await (await other.get()).seed({"said": ["else"]})
        reader = await follow(await other.get())
        await reader.until_run("completed")
        assert reader.state == {"said": ["hello"], "count": ""}


# readers on other nodes


@in_virtual_time
async def test_a_follower_knows_from_the_owner_whether_a_run_is_abandoned() -> None:
    for links in (Links(), Links(lost=0.3, delays_s=(0.0, 0.05))):
        hub = Hub(links=links)
        async with nodes(2, hub) as (owner, other):
            reader = Reader()
            subscriber = await (await owner.get()).subscribe(reader)
            thread = await other.get()
            assert not await thread.absence.abandoned_within(0.1), "nothing goes on"
            await send(owner, "hang", sent=Sent(absence_s=60))
            await reader.until_run("running")
            await thread.flush()
            assert not await thread.absence.abandoned_within(0.1), "somebody reads"
            subscriber.thread.unsubscribe(subscriber)
            assert await thread.absence.abandoned_within(0.1)


@in_virtual_time
async def test_a_run_that_may_not_be_left_alone_goes_on_while_only_another_node_has_a_reader() -> None:
    for links in (Links(), Links(lost=0.2), Links(lost=1)):
        hub = Hub(links=links)
        async with nodes(2, hub) as (owner, other):
            await owner.get()
            reader = await follow(await other.get())
            await send(other, "count 300", sent=Sent(absence_s=0))
            await reader.until_run("running")
            await asyncio.sleep(29)
            await reader.until_run("completed")


@in_virtual_time
async def test_what_became_of_a_repeated_command_is_told_after_the_state_that_shows_it() -> None:
    async with nodes(2, Hub(links=Links(lost=1))) as (owner, other):
        own, thread = await owner.get(), await other.get()
        await (await send(owner, "hello")).until("c1", "applied")
        await own.runner.ended()
        assert thread.document.root == {}, "it has not heard of it"
        told: list[Any] = []
        await thread.submit(
            "c1",
            say("hello"),
            strategy=None,
            watcher=lambda state: told.append((state.status, thread.document.root.get("said"))),
        )
        assert told == [("applied", ["hello"])]
        assert thread.run_info.status == "completed"
