"""Threads over HTTP: what each route answers, whatever is asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import anyio
import httpx
import msgspec
import pytest

import threadwire
from tests.support.engine import Commands, follow, say
from tests.support.http import error_of, http_client
from threadwire.core.codec import decode_log, encode_log
from threadwire.core.errors import StoreUnavailable
from threadwire.core.frames import Error
from threadwire.core.operations import Set, apply
from threadwire.engine.settings import Settings
from threadwire.engine.store import LogRow, LogSlice, ThreadPage
from threadwire.engine.threads import Threads
from threadwire.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


@threadwire.agent
async def echo(run: threadwire.Run) -> None:
    """Writes each message's text word by word, an update each."""
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        messages.append("")
        for word in command.message.text.split():
            messages[-1] += word
            await run.flush()


@threadwire.agent
async def forever(run: threadwire.Run) -> None:
    for _ in run.commands:
        run.state["at"] = "work"
    await anyio.sleep_forever()


@threadwire.agent
async def other(run: threadwire.Run) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def talk(threads: Threads, id: str, text: str) -> Any:
    """Runs the agent on a text to its end; what a client that follows the thread has then."""
    thread = await threads.get(id)
    reader = await follow(thread)
    await thread.submit(f"c-{text}", say(text), strategy=None, watcher=Commands())
    await reader.until_run("completed")
    thread.unsubscribe(next(iter(thread.subscribers)))
    return reader


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [record["id"] for record in response.json()["threads"]]


# making and reading


@pytest.mark.spec("14.3")
async def test_new_thread_is_described_by_its_record_and_found_at_its_location() -> None:
    async with http_client(echo, other, settings=Settings(clock=lambda: 12.5)) as (http, _):
        body = {"id": "t:1~a", "agent": "other", "title": "Ünï\x00", "custom": {"a": [1, 2.5, None, "é"]}}
        made = await http.post("/threads", json=body)
        assert made.status_code == 201
        assert made.headers["location"] == "/threads/t:1~a"
        assert made.json() == {**body, "archived": False, "created_at": 12.5, "updated_at": 12.5}
        assert (await http.get(made.headers["location"])).json() == made.json()
        state = (await http.get("/threads/t:1~a/state")).json()
        assert (state["thread"], state["state"], state["run"]) == ("t:1~a", {}, None)


async def test_thread_made_of_nothing_has_an_id_the_first_agent_and_no_title() -> None:
    async with http_client(echo, other) as (http, _):
        for body in ({}, {"id": None, "agent": None, "title": None}):
            record = (await http.post("/threads", json=body)).json()
            assert len(record["id"]) == 16
            assert (record["agent"], record["title"], record["custom"]) == ("echo", None, {})
        assert (await http.post("/threads")).status_code == 201
        assert len(ids(await http.get("/threads"))) == 3


async def test_location_has_the_path_that_the_server_is_mounted_at() -> None:
    async with http_client(echo) as (http, _):
        app = http._transport.app  # type: ignore[attr-defined]
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, root_path="/api"), base_url="http://threadwire.test"
        ) as mounted:
            assert (await mounted.post("/threads", json={"id": "t"})).headers["location"] == "/api/threads/t"


@pytest.mark.spec("14.3")
async def test_thread_that_exists_is_a_conflict_and_stays_as_it_is() -> None:
    async with http_client(echo) as (http, threads):
        await http.post("/threads", json={"id": "t", "title": "first"})
        error = error_of(await http.post("/threads", json={"id": "t", "title": "second"}), 409)
        assert (error["code"], error["field"]) == ("conflict", "body.id")
        await threads.get("opened")
        assert error_of(await http.post("/threads", json={"id": "opened"}), 409)["code"] == "conflict"
        assert (await http.get("/threads/t")).json()["title"] == "first"


async def test_one_of_many_creates_at_once_makes_the_thread() -> None:
    async with http_client(echo) as (http, _):
        answers: list[httpx.Response] = []

        async def create(title: str) -> None:
            answers.append(await http.post("/threads", json={"id": "t", "title": title}))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(create, str(number))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201] + [409] * 19
        (made,) = [answer.json() for answer in answers if answer.status_code == 201]
        assert (await http.get("/threads/t")).json() == made


async def test_made_thread_takes_commands() -> None:
    async with http_client(echo) as (http, threads):
        await http.post("/threads", json={"id": "t"})
        reader = await talk(threads, "t", "hello big world")
        state = (await http.get("/threads/t/state")).json()
        assert state["state"] == reader.state == {"messages": ["hellobigworld"]}
        assert [state["epoch"], state["seq"]] == list(reader.position)
        assert state["run"]["status"] == "completed"


BAD_IDS = [
    "",
    "a b",
    "ä",
    "a/b",
    "a\n",
    "\n",
    "a" * 129,
    "a%",
    "a?b",
    "a#b",
    "<b>",
    "a\x00",
    "😀",
    "a'",
    "a\\",
]


@pytest.mark.parametrize("id", BAD_IDS)
async def test_id_against_the_rules_makes_no_thread(id: str) -> None:
    async with http_client(echo) as (http, _):
        error = error_of(await http.post("/threads", json={"id": id}), 400)
        assert (error["code"], error["field"]) == ("invalid-request", "body.id")
        assert ids(await http.get("/threads")) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": 1}, "body.id"),
        ({"id": ["t"]}, "body.id"),
        ({"agent": 1}, "body.agent"),
        ({"title": 1}, "body.title"),
        ({"title": "x" * 501}, "body.title"),
        ({"custom": None}, "body.custom"),
        ({"custom": []}, "body.custom"),
        ({"custom": {"a": "x" * 16 * 1024}}, "body.custom"),
    ],
)
async def test_wrong_fields_of_a_new_thread_are_named(body: dict[str, Any], field: str) -> None:
    async with http_client(echo) as (http, _):
        error = error_of(await http.post("/threads", json={"id": "t", **body}), 400)
        assert (error["code"], error["field"]) == ("invalid-request", field)
        assert error_of(await http.get("/threads/t"), 404)


async def test_unknown_agent_is_not_found() -> None:
    async with http_client(echo) as (http, _):
        for agent in ("nobody", "", "x" * 100_000):
            error = error_of(await http.post("/threads", json={"agent": agent}), 404)
            assert (error["code"], error["field"]) == ("not-found", "body.agent")


# changing


@pytest.mark.spec("14.3")
async def test_change_keeps_what_it_leaves_out() -> None:
    async with http_client(echo, settings=Settings(clock=Clock())) as (http, _):
        await http.post("/threads", json={"id": "t", "title": "a", "custom": {"x": 1}})
        for change, title, custom in (
            ({"title": "b"}, "b", {"x": 1}),
            ({"custom": {"y": [2]}}, "b", {"y": [2]}),
            ({"title": None}, None, {"y": [2]}),
            ({"title": "", "custom": {}}, "", {}),
        ):
            record = (await http.patch("/threads/t", json=change)).json()
            assert (record["title"], record["custom"], record["archived"]) == (title, custom, False)
            assert (await http.get("/threads/t")).json() == record


@pytest.mark.spec("14.4")
async def test_change_of_a_record_is_no_change_of_the_state() -> None:
    async with http_client(echo) as (http, threads):
        await talk(threads, "t", "hello")
        before = (await http.get("/threads/t/state")).json()
        await http.patch("/threads/t", json={"title": "a", "custom": {"messages": []}})
        await http.post("/threads/t/archive")
        assert (await http.get("/threads/t/state")).json() == before


async def test_change_of_nothing_changes_nothing() -> None:
    async with http_client(echo, settings=Settings(clock=Clock())) as (http, _):
        made = (await http.post("/threads", json={"id": "t", "title": "a"})).json()
        for content in (b"", b"{}", b'{"id": "other", "agent": "nobody"}'):
            assert (await http.patch("/threads/t", content=content, headers=JSON)).json() == made


@pytest.mark.spec("14.3")
async def test_archived_thread_leaves_the_list_until_it_is_brought_back() -> None:
    async with http_client(echo) as (http, _):
        for id in ("a", "b"):
            await http.post("/threads", json={"id": id})
        for _ in range(2):
            assert (await http.post("/threads/a/archive")).json()["archived"] is True
        assert ids(await http.get("/threads")) == ids(await http.get("/threads?archived=exclude")) == ["b"]
        assert ids(await http.get("/threads?archived=only")) == ["a"]
        assert sorted(ids(await http.get("/threads?archived=include"))) == ["a", "b"]
        assert (await http.post("/threads/a/unarchive")).json()["archived"] is False
        assert (await http.patch("/threads/b", json={"archived": True})).json()["archived"] is True
        assert ids(await http.get("/threads")) == ["a"]


async def test_wrong_fields_of_a_change_are_named() -> None:
    async with http_client(echo) as (http, _):
        await http.post("/threads", json={"id": "t", "title": "a"})
        for body, field in (
            ({"title": 1}, "body.title"),
            ({"title": "x" * 501}, "body.title"),
            ({"archived": "yes"}, "body.archived"),
            ({"custom": None}, "body.custom"),
            ({"custom": {"a": "x" * 16 * 1024}}, "body.custom"),
        ):
            error = error_of(await http.patch("/threads/t", json=body), 400)
            assert (error["code"], error["field"]) == ("invalid-request", field)
        assert (await http.get("/threads/t")).json()["title"] == "a"


# unknown threads

ROUTES = [
    ("GET", "/threads/{}"),
    ("HEAD", "/threads/{}"),
    ("PATCH", "/threads/{}"),
    ("DELETE", "/threads/{}"),
    ("POST", "/threads/{}/archive"),
    ("POST", "/threads/{}/unarchive"),
    ("GET", "/threads/{}/state"),
    ("GET", "/threads/{}/history"),
    ("GET", "/threads/{}/history?after=5"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_unknown_thread_is_not_found_and_not_made(method: str, path: str) -> None:
    async with http_client(echo) as (http, threads):
        for body in (None, {"title": "new"}):
            error = error_of(await http.request(method, path.format("t"), json=body), 404)
            assert method == "HEAD" or error["code"] == "not-found"
        assert ids(await http.get("/threads?archived=include")) == []
        assert len(threads) == 0


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "id",
    [
        "a%20b",
        "%00",
        "%0a",
        "t%0a",
        "%ff%fe",
        "%c3%a9",
        "a%2Fb",
        "%252e",
        "%",
        "%zz",
        "a" * 129,
        "%F0%9F%98%80",
    ],
)
async def test_malformed_id_is_not_found(method: str, path: str, id: str) -> None:
    async with http_client(echo) as (http, _):
        error_of(await http.request(method, path.format(id)), 404)


async def test_percent_encoded_id_is_the_id() -> None:
    async with http_client(echo) as (http, _):
        await http.post("/threads", json={"id": "t:1"})
        for id in ("t:1", "t%3A1", "%74%3a1"):
            assert (await http.get(f"/threads/{id}")).json()["id"] == "t:1"


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/threads", {"GET", "HEAD", "POST"}),
        ("/threads/t", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/threads/t/archive", {"POST"}),
        ("/threads/t/state", {"GET", "HEAD"}),
        ("/threads/t/history", {"GET", "HEAD"}),
    ],
)
async def test_methods_that_a_path_does_not_take_are_refused(path: str, allow: set[str]) -> None:
    async with http_client(echo) as (http, _):
        await http.post("/threads", json={"id": "t"})
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
            if method in allow:
                continue
            response = await http.request(method, path, content=b"{" * 1000)
            error = error_of(response, 405)
            assert method == "HEAD" or error["code"] == "method-not-allowed"
            assert set(response.headers["allow"].split(", ")) == allow
        if "HEAD" in allow:
            assert (await http.head(path)).status_code == 200


# lists


async def test_list_is_empty_at_first() -> None:
    async with http_client(echo) as (http, _):
        assert (await http.get("/threads")).json() == {"threads": [], "cursor": None}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
@pytest.mark.spec("14.3")
async def test_pages_hold_every_thread_once_the_newest_first(limit: int) -> None:
    async with http_client(echo, settings=Settings(clock=Clock())) as (http, _):
        for number in range(7):
            await http.post("/threads", json={"id": f"t{number}"})
        seen, pages = await pages_of(http, limit=limit)
        assert seen == [f"t{number}" for number in reversed(range(7))]
        assert pages <= 7 // limit + 1


async def test_threads_updated_at_the_same_time_are_paged_without_gap_or_double() -> None:
    async with http_client(echo, settings=Settings(clock=lambda: 5.0)) as (http, _):
        for number in range(9):
            await http.post("/threads", json={"id": f"t{number}"})
        seen, _ = await pages_of(http, limit=2)
        assert sorted(seen) == [f"t{number}" for number in range(9)]


async def test_page_goes_on_where_it_was_when_threads_come_and_go() -> None:
    async with http_client(echo, settings=Settings(clock=Clock())) as (http, _):
        for number in range(6):
            await http.post("/threads", json={"id": f"t{number}"})
        first = await http.get("/threads?limit=2")
        assert ids(first) == ["t5", "t4"]
        await http.post("/threads", json={"id": "new"})
        await http.delete("/threads/t4")
        await http.delete("/threads/t2")
        cursor = first.json()["cursor"]
        for _ in range(2):
            assert ids(await http.get("/threads", params={"limit": 10, "cursor": cursor})) == [
                "t3",
                "t1",
                "t0",
            ]


async def test_list_is_filtered_by_agent() -> None:
    async with http_client(echo, other) as (http, _):
        await http.post("/threads", json={"id": "e"})
        await http.post("/threads", json={"id": "o", "agent": "other"})
        assert ids(await http.get("/threads?agent=other")) == ["o"]
        assert ids(await http.get("/threads?agent=nobody")) == []
        assert ids(await http.get("/threads?agent=")) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=201", "query.limit"),
        ("limit=-1", "query.limit"),
        ("limit=1.5", "query.limit"),
        ("limit=", "query.limit"),
        ("limit=abc", "query.limit"),
        ("limit=NaN", "query.limit"),
        ("limit=1e400", "query.limit"),
        ("limit=" + "9" * 5000, "query.limit"),
        ("archived=yes", "query.archived"),
        ("archived=", "query.archived"),
        ("archived=exclude&archived=" + "x" * 5000, "query.archived"),
        ("cursor=", "query.cursor"),
        ("cursor=garbage", "query.cursor"),
        ("cursor=" + "A" * 5000, "query.cursor"),
        ("cursor=%00", "query.cursor"),
        ("cursor=%ff%fe", "query.cursor"),
        ("cursor=null", "query.cursor"),
        ("cursor=W10%3D", "query.cursor"),
        ("cursor=W251bGwsbnVsbF0%3D", "query.cursor"),
        ("cursor=" + "%F0%9F%98%80" * 50, "query.cursor"),
        ("cursor='%20OR%201=1--", "query.cursor"),
    ],
)
async def test_bad_parameter_of_a_list_is_named(
    query: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_client(echo) as (http, _):
        error = error_of(await http.get(f"/threads?{query}"), 400)
        assert (error["code"], error["field"]) == ("invalid-request", field)
    assert not caplog.records


async def test_cursor_with_a_part_changed_is_refused_or_a_place_in_the_list() -> None:
    async with http_client(echo, settings=Settings(clock=Clock())) as (http, _):
        for number in range(4):
            await http.post("/threads", json={"id": f"t{number}"})
        cursor = (await http.get("/threads?limit=2")).json()["cursor"]
        for place in range(len(cursor)):
            for character in "A0=_":
                changed = cursor[:place] + character + cursor[place + 1 :]
                response = await http.get("/threads", params={"cursor": changed})
                if response.status_code != 200:
                    assert error_of(response, 400)["field"] == "query.cursor"


async def test_odd_queries_are_answered() -> None:
    async with http_client(echo) as (http, _):
        for query in (
            "?",
            "&&&",
            "=",
            "a=b=c",
            "%ff",
            "x=%zz",
            "limit=5&x",
            "a=" + "b" * 50_000,
            "[]=1",
            ";",
        ):
            assert (await http.get(f"/threads?{query}")).status_code == 200


# states and history


@pytest.mark.spec("14.5")
async def test_state_in_the_middle_of_a_run_is_what_clients_have_been_shown() -> None:
    async with http_client(forever) as (http, threads):
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("c", say("go"), strategy=None, watcher=Commands())
        await reader.until(lambda: reader.state == {"at": "work"})
        body = (await http.get("/threads/t/state")).json()
        assert list(body) == ["thread", "epoch", "seq", "state", "run"]
        assert (body["epoch"], body["seq"]) == reader.position
        assert body["state"] == reader.state
        assert body["run"] == {"id": reader.runs[-1].id, "status": "running"}  # type: ignore[union-attr]


@pytest.mark.spec("14.6")
async def test_history_leads_from_the_empty_state_to_the_current_one() -> None:
    async with http_client(echo) as (http, threads):
        reader = await talk(threads, "t", "one two three four five")
        history = (await http.get("/threads/t/history")).json()
        assert list(history) == ["thread", "floor", "head", "updates"]
        assert history["thread"] == "t"
        assert history["floor"]["seq"] == 0
        assert [history["updates"][-1]["epoch"], history["head"]] == list(reader.position)
        assert replay(history["updates"]) == reader.state
        assert [update["seq"] for update in history["updates"]] == list(range(1, history["head"] + 1))


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.spec("14.6")
async def test_pages_of_history_hold_every_update_once(limit: int) -> None:
    async with http_client(echo) as (http, threads):
        await talk(threads, "t", "one two three four five")
        everything = (await http.get("/threads/t/history")).json()
        updates: list[Any] = []
        while len(updates) < everything["head"]:
            query = {"after": len(updates), "limit": limit}
            page = (await http.get("/threads/t/history", params=query)).json()
            assert {**page, "updates": []} == {**everything, "updates": []}
            assert 1 <= len(page["updates"]) <= limit
            updates += page["updates"]
        assert updates == everything["updates"]
        for after in (len(updates), len(updates) + 1, 2**53 - 1):
            assert (await http.get(f"/threads/t/history?after={after}")).json()["updates"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=-1", "query.after"),
        ("after=1.5", "query.after"),
        ("after=", "query.after"),
        ("after=null", "query.after"),
        ("after=9007199254740992", "query.after"),
        ("after=" + "9" * 5000, "query.after"),
        ("limit=0", "query.limit"),
        ("limit=1001", "query.limit"),
    ],
)
async def test_bad_parameter_of_a_history_is_named(query: str, field: str) -> None:
    async with http_client(echo) as (http, threads):
        await threads.get("t")
        error = error_of(await http.get(f"/threads/t/history?{query}"), 400)
        assert (error["code"], error["field"]) == ("invalid-request", field)


class TrimmedStore(MemoryStore):
    """A log that begins after seq 5 and holds large rows."""

    size = 1

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        data = encode_log([Set(("text",), "x" * self.size)])
        rows = [LogRow(seq, 77, data) for seq in range(6, 20) if seq > after]
        return LogSlice(rows=rows[:limit], floor_seq=5, floor_epoch=66, head=19)


@pytest.mark.spec("14.6")
async def test_history_below_the_floor_is_gone_and_begins_at_the_floor_by_itself() -> None:
    async with http_client(echo, store=TrimmedStore()) as (http, _):
        for after in (0, 4):
            error = error_of(await http.get(f"/threads/t/history?after={after}"), 410)
            assert (error["code"], error["field"]) == ("history-gone", "query.after")
        for query in ("", "?after=5"):
            history = (await http.get(f"/threads/t/history{query}")).json()
            assert (history["floor"], history["head"]) == ({"epoch": 66, "seq": 5}, 19)
            assert [update["seq"] for update in history["updates"]] == list(range(6, 20))


async def test_page_of_history_ends_early_where_its_rows_are_large() -> None:
    store = TrimmedStore()
    store.size = 3 * 1024 * 1024
    async with http_client(echo, store=store) as (http, _):
        updates = (await http.get("/threads/t/history?after=7")).json()["updates"]
        assert [update["seq"] for update in updates] == [8, 9]
        store.size = 10 * 1024 * 1024
        updates = (await http.get("/threads/t/history?after=7")).json()["updates"]
        assert [update["seq"] for update in updates] == [8]


# deleting


async def test_deleted_thread_is_gone_with_all_there_was_of_it() -> None:
    async with http_client(echo) as (http, threads):
        first = await talk(threads, "t", "hello")
        response = await http.delete("/threads/t")
        assert (response.status_code, response.content) == (204, b"")
        for method, path in ROUTES:
            error_of(await http.request(method, path.format("t")), 404)
        assert ids(await http.get("/threads?archived=include")) == []
        assert (await http.post("/threads", json={"id": "t"})).status_code == 201
        state = (await http.get("/threads/t/state")).json()
        assert (state["state"], state["run"]) == ({}, None)
        assert state["epoch"] > first.position[0]


@pytest.mark.spec("14.3")
async def test_deleting_a_thread_ends_its_run_and_tells_its_clients() -> None:
    async with http_client(forever) as (http, threads):
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("c", say("go"), strategy=None, watcher=commands)
        await reader.until(lambda: reader.state == {"at": "work"})
        await thread.submit("queued", say("more"), strategy=None, watcher=commands)
        assert (await http.delete("/threads/t")).status_code == 204
        assert reader.runs[-1].status == "cancelled"  # type: ignore[union-attr]
        assert commands.of("queued") == ["queued", "cancelled"]
        error = reader.frames[-1]
        assert isinstance(error, Error)
        assert (error.code, error.thread) == ("not-found", "t")
        assert len(reader.lost_subscribers) == 1
        error_of(await http.get("/threads/t/state"), 404)
        assert len(threads) == 0


async def test_thread_is_deleted_once_however_many_ask() -> None:
    async with http_client(forever) as (http, threads):
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("c", say("go"), strategy=None, watcher=Commands())
        await reader.until_run("running")
        statuses: list[int] = []

        async def delete() -> None:
            statuses.append((await http.delete("/threads/t")).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(delete)
        assert sorted(statuses) == [204, 404, 404, 404, 404]
        assert sum(isinstance(frame, Error) for frame in reader.frames) == 1


async def test_thread_whose_agent_is_no_longer_served_is_listed_and_can_be_deleted() -> None:
    store = MemoryStore()
    async with http_client(other, store=store) as (_, threads):
        await threads.get("t")
    async with http_client(echo, store=store) as (http, _):
        assert ids(await http.get("/threads")) == ["t"]
        assert error_of(await http.get("/threads/t/state"), 404)["field"] == "agent"
        assert (await http.delete("/threads/t")).status_code == 204
        assert ids(await http.get("/threads")) == []
        error_of(await http.delete("/threads/t"), 404)


# a store that fails


class BrokenStore(MemoryStore):
    broken = False

    def _check(self) -> None:
        if self.broken:
            raise StoreUnavailable("the disk /dev/secret is gone")

    async def threads(self, **query: Any) -> ThreadPage:
        self._check()
        return await super().threads(**query)

    async def thread(self, thread: str) -> Any:
        self._check()
        return await super().thread(thread)

    async def create(self, record: Any) -> bool:
        self._check()
        return await super().create(record)

    async def acquire(self, thread: str, **options: Any) -> Any:
        self._check()
        return await super().acquire(thread, **options)

    async def log(self, thread: str, **query: Any) -> Any:
        self._check()
        return await super().log(thread, **query)


async def test_store_that_fails_is_503_for_as_long_as_it_does() -> None:
    store = BrokenStore()
    async with http_client(echo, store=store) as (http, _):
        await http.post("/threads", json={"id": "t"})
        for broken in (True, False):
            store.broken = broken
            for path in ("/threads", "/threads/t", "/threads/t/state", "/threads/t/history"):
                response = await http.get(path)
                if broken:
                    assert error_of(response, 503)["code"] == "store-unavailable"
                    assert response.headers["retry-after"] == "1"
                    assert "secret" not in response.text
                else:
                    assert response.status_code == 200


# hostile bodies

HOSTILE = [
    (b"not json", "malformed"),
    (b'{"custom": {"a": NaN}}', "not-finite"),
    (b'{"custom": {"a": 1e400}}', "not-finite"),
    (b'{"title": "a", "title": "b"}', "duplicate-key"),
    (b'{"title": "\\ud800"}', "invalid-unicode"),
    (b'{"custom": {"a": 9007199254740992}}', "integer-range"),
    (b'{"custom": {"a": ' + b"[" * 2_000 + b"]" * 2_000 + b"}}", "too-deep"),
    (b'{"custom": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "too-deep"),
    (b'{"custom": {"__proto__": 1}}', "forbidden-key"),
    (b'{"custom": {"a": {"constructor": 1}}}', "forbidden-key"),
    (b'{"title": "' + b"x" * 5_000_000 + b'"}', "too-large"),
    (b"[1]", "invalid-request"),
    (b"7", "invalid-request"),
]


@pytest.mark.parametrize(("body", "code"), HOSTILE)
async def test_hostile_body_changes_nothing_and_leaves_no_trace(
    body: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_client(echo) as (http, _):
        made = (await http.post("/threads", json={"id": "t", "title": "a"})).json()
        for method, path in (("POST", "/threads"), ("PATCH", "/threads/t")):
            response = await http.request(method, path, content=body, headers=JSON)
            error = error_of(response, 413 if code == "too-large" else 400)
            assert error["code"] == code
            assert error["field"].startswith("body")
        assert (await http.get("/threads")).json()["threads"] == [made]
        # What needs no body doesn't read one.
        assert (await http.post("/threads/t/archive", content=body, headers=JSON)).status_code == 200
        assert (await http.request("GET", "/threads/t", content=body, headers=JSON)).status_code == 200
    assert not caplog.records


async def pages_of(http: httpx.AsyncClient, limit: int) -> tuple[list[str], int]:
    """All ids page by page, and the number of pages."""
    seen: list[str] = []
    query: dict[str, Any] = {"limit": limit}
    for pages in range(1, 100):
        page = await http.get("/threads", params=query)
        assert len(ids(page)) <= limit
        seen += ids(page)
        query["cursor"] = page.json()["cursor"]
        if query["cursor"] is None:
            return seen, pages
    raise AssertionError("the list does not end")


def replay(updates: Iterable[dict[str, Any]]) -> Any:
    """The state that a log's updates lead to."""
    state: Any = {}
    for update in updates:
        arrays = [[*operation.values()] for operation in update["ops"]]
        assert all(list(operation)[:2] == ["type", "path"] for operation in update["ops"])
        state = apply(state, decode_log(msgspec.msgpack.encode(arrays)))
    return json.loads(json.dumps(state))
