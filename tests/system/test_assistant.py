"""Stock clients against the real server process: cuts, kills, slow readers, hostile neighbours."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.support.malformed import ROUTES, Malformed, malformed
from tests.support.server import Server, running
from tests.support.spec import vectors
from tests.support.stock_client import PROTOCOLS, Broken, StreamReader, body, message
from tests.support.streams import post, until_run

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("protocol", PROTOCOLS)

KILLS = int(os.environ.get("THREADWIRE_TEST_KILLS", "20")) // 3
AGENT = "scripted=threadwire_agents.demos.scripted:scripted"


@asynccontextmanager
async def serving(tmp: Path, *args: str, **options: Any) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    async with running(tmp, AGENT, *args, **options) as server, httpx.AsyncClient(timeout=60) as http:
        yield server, http
        assert "Traceback" not in server.log(), server.log()


@both
async def test_streams_and_websockets_show_the_same_and_nothing_is_compressed(
    tmp_path: Path, protocol: str
) -> None:
    async with serving(tmp_path) as (server, http), server.client() as client:
        view = await client.open("t", agent="scripted")
        await client.until(lambda: view.seq >= 0)
        asked = body("count 300 every 2", threadId="t")
        async with post(
            server, http, asked, protocol=protocol, headers={"accept-encoding": "gzip, br"}
        ) as one:
            assert "content-encoding" not in one.response.headers
            await one.until(lambda: bool(one.text))
            async with post(server, http, {"threadId": "t"}, path="/resume", protocol=protocol) as two:
                await two.end()
            await one.end()
        await client.until_run("t", "completed")
        final = (await server.state("t"))["state"]
        assert one.reader.state == two.reader.state == view.state == final
        assert one.text == "".join(f"{n} " for n in range(1, 301))
        assert len(one.reader.states) > 5, "it streams"


@both
async def test_kill_9_never_looks_like_success_and_nothing_shown_is_lost(
    tmp_path: Path, protocol: str
) -> None:
    dice = random.Random(11)
    async with serving(tmp_path) as (server, http):
        for number in range(KILLS):
            if number:
                await server.start()
            key = {"Idempotency-Key": f"key-{number}"}
            asked = body(f"count {dice.choice((30, 3000))} every 1", threadId="t")
            with pytest.raises((httpx.TransportError, Broken)):
                async with post(server, http, asked, protocol=protocol, headers=key) as stream:
                    await stream.until(lambda: bool(stream.text))
                    await asyncio.sleep(dice.random() * 0.02)
                    await server.kill()
                    await stream.end()
            shown = stream.reader.state
            with pytest.raises(Broken):  # also where a proxy hides how the connection ended
                stream.reader.end()
            await server.start()
            async with post(server, http, {"threadId": "t"}, path="/resume", protocol=protocol) as resumed:
                await resumed.end()
            state = (await until_run(server, "t", "failed", "completed"))["state"]
            kept = state["messages"]
            for old, new in zip(shown["messages"], kept, strict=False):
                assert new["id"] == old["id"]
                assert new["content"].startswith(old["content"])
            async with post(server, http, asked, protocol=protocol, headers=key) as again:
                assert (await again.end()).state == state, "the repetition changed nothing"
            said = [each for each in kept if each["role"] == "user"]
            assert len(said) == number + 1, "each message is there once"
            await server.kill()


@both
async def test_server_that_is_stopped_tells_its_clients(tmp_path: Path, protocol: str) -> None:
    async with serving(tmp_path, "--drain-s", "0.3") as (server, http):
        async with post(server, http, body("hang on", threadId="t"), protocol=protocol) as stream:
            await stream.until(lambda: bool(stream.text))
            stopping = asyncio.ensure_future(server.stop())
            assert len((await stream.end()).errors) == 1
            assert await stopping == 0
        await server.start()
        state = await until_run(server, "t", "failed", "running")
        assert [each["content"] for each in state["state"]["messages"]][:2] == ["hang on", "hang "]


async def test_connection_that_closes_stops_the_run_in_time_and_the_next_message_at_once(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, "--on-disconnect", "0.5") as (server, http):
        async with post(server, http, body("hang on", threadId="a")) as stream:
            await stream.until(lambda: bool(stream.text))
            left = time.monotonic()
        await until_run(server, "a", "cancelled")
        assert time.monotonic() - left > 0.5
    async with serving(tmp_path, env={"THREADWIRE_ON_DISCONNECT": "continue"}) as (server, http):
        asked = body("hang on", threadId="b")
        async with post(server, http, asked, query={"on_disconnect": "60"}) as stream:
            await stream.until(lambda: bool(stream.text))
        left = time.monotonic()
        async with post(server, http, body("next one", threadId="b")) as stream:
            await stream.end()
        assert time.monotonic() - left < 30, "it waited for the run"
        assert stream.text == "next one"
        async with post(server, http, body("hang on", threadId="c")) as stream:
            await stream.until(lambda: bool(stream.text))
        assert (await server.state("c"))["run"]["status"] == "running"
        stopped = await http.post(f"{server.url}/cancel", json={"threadId": "c"})
        assert stopped.json()["run"]["status"] == "cancelled"


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


BLOBS = """
import asyncio
import threadwire

@threadwire.agent
async def blobs(run: threadwire.Run) -> None:
    for _ in run.commands:
        run.state["texts"] = [""]
    for number in range(800):
        run.state["blob"] = f"{number} " + "x" * 200_000
        run.append_text(("texts", 0), f"{number} ")
        await run.flush()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to read the server's memory")
@both
async def test_reader_that_stops_costs_little_and_ends_at_the_exact_state(
    tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "big.py").write_text(BLOBS)
    async with running(tmp_path, f"{tmp_path / 'big.py'}:blobs") as server:
        assert server.process is not None
        content = json.dumps(body("go", threadId="t")).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        head = (
            f"POST /assistant?protocol={protocol} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        )
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await reader.readuntil(b"\r\n\r\n")
        before = resident_bytes(server.process.pid)
        # From here on nothing is read from its socket; 160 MB pass by.
        transport = writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        state = await until_run(server, "t", "completed")
        assert resident_bytes(server.process.pid) - before < 64 * 1024 * 1024
        transport.resume_reading()
        stream = StreamReader(protocol)
        with anyio.fail_after(60):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                stream.feed(await reader.readexactly(size))
                await reader.readexactly(2)
        stream.end()
        assert stream.state == state["state"]
        assert stream.state["texts"] == ["".join(f"{n} " for n in range(800))]
        assert len(stream.states) < 300, "what it missed was merged"
        writer.close()


async def test_hostile_requests_are_refused_and_nothing_else_suffers(tmp_path: Path) -> None:
    cases = [case for case in vectors("assistant") if case["status"] >= 400 and "hex" not in case]
    async with serving(tmp_path) as (server, http):
        good_one = post(server, http, body("count 100000 every 5", threadId="good"))
        async with good_one as good:
            await good.until(lambda: bool(good.text))

            async def attack(case: dict[str, Any]) -> None:
                nest = case.get("nest", 0)
                filling = "x" * case["fill"] if "fill" in case else "[" * nest + "]" * nest
                content: Any = case.get("body")
                if "repeat" in case:
                    content = {**content, "commands": content["commands"] * case["repeat"]}
                text = str(case["text"]).replace("%s", filling) if "text" in case else json.dumps(content)
                headers = {"Content-Type": "application/json", **case.get("headers", {})}
                if not all(value.isascii() for value in headers.values()):
                    return
                url = server.url + case.get("path", "/assistant")
                answer = await http.post(url, content=text, params=case.get("query"), headers=headers)
                assert answer.status_code == case["status"], (case["comment"], answer.text)
                assert answer.json()["error"]["code"] == case["error"]

            async def send(path: str, case: Malformed) -> None:
                headers = {"Content-Type": "application/json"}
                answer = await http.post(server.url + path, content=case.data, headers=headers)
                assert answer.status_code == case.status, (path, case.name, answer.text)
                assert answer.json()["error"]["field"].startswith(case.field), (path, case.name)

            async with anyio.create_task_group() as group:
                for case in cases:
                    group.start_soon(attack, case)
                for path in ROUTES:
                    for wrong in malformed(path, "good"):
                        group.start_soon(send, path, wrong)
            parts = len(good.reader.states)
            await good.until(lambda: len(good.reader.states) > parts + 50)
            assert good.text.startswith("1 2 3 4 5 6 7 8 9 ")


async def test_message_of_a_stock_client_is_applied_once_though_it_is_sent_many_times(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, http):
        asked = body(commands=[message("hello there", id="c-1")])
        threads = set()

        async def send() -> None:
            async with post(server, http, asked) as stream:
                await stream.end()
                threads.add(stream.response.headers["threadwire-thread"])

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(send)
        await server.kill()
        await server.start()
        await send()
        (thread,) = threads
        messages = (await server.state(thread))["state"]["messages"]
        assert [each["content"] for each in messages] == ["hello there", "hello there"]
