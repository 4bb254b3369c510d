"""The real server as a process of its own, and a plain client that checks every frame it gets."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
from websockets.asyncio.client import ClientConnection, connect

from threadwire.core.codec import Encoding, decode_server_message, encode_value
from threadwire.core.frames import CommandState, Error, Run, Snapshot, Update
from threadwire.core.operations import Json, apply

ROOT = Path(__file__).parents[2]


class Server:
    """`threadwire serve` on a free port; its log goes to a file that tests may read."""

    def __init__(self, store: str, log: Path, *args: str, env: dict[str, str] | None = None) -> None:
        self._args = ["serve", *args, "--store", store]
        self._log = log
        self._env = env or {}
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self, *, port: int = 0) -> None:
        """Returns when the server answers; port 0 is a free one."""
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-W",
                "error",
                "-m",
                "threadwire",
                *self._args,
                "--port",
                str(port),
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                cwd=self._log.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._env},
            )
        with anyio.fail_after(30):
            while not self.port or not await self._ready():
                if self.process.returncode is not None:
                    raise RuntimeError(f"the server ended: {self.log()}")
                await asyncio.sleep(0.02)
                if found := re.search(rb"http://127\.0\.0\.1:(\d+)", self._log.read_bytes()[begin:]):
                    self.port = int(found[1])

    async def _ready(self) -> bool:
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{self.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self._log.read_text()

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ends it as an operator would; returns its exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, signal_number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal_number)
        with anyio.fail_after(30):
            code = await self.process.wait()
        self.port = 0
        return code

    async def state(self, thread: str) -> dict[str, Any]:
        """`GET /threads/{id}/state`."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.url}/threads/{thread}/state")
            answer.raise_for_status()
            return dict(answer.json())

    @asynccontextmanager
    async def client(self, encoding: Encoding = "json") -> AsyncIterator[Client]:
        async with await self.connect(encoding) as client:
            yield client

    async def connect(self, encoding: Encoding = "json") -> Client:
        socket = await connect(
            self.ws,
            subprotocols=[f"threadwire.v1.{encoding}"],  # type: ignore[list-item]
            max_size=None,
            compression=None,
            close_timeout=1,
        )
        return Client(socket, encoding)


@asynccontextmanager
async def running(tmp: Path, *args: str, store: str | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server for the length of a block; killed at its end if it still runs."""
    server = Server(store or f"sqlite:///{tmp / 'threads.db'}", tmp / "server.log", *args, **options)
    await server.start()
    try:
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await server.kill()


class View:
    """What one client has been shown of one thread: each seq exactly once, or the test fails."""

    def __init__(self) -> None:
        self.state: Json = None
        self.epoch = 0
        self.seq = -1
        self.snapshots = 0
        self.updates = 0
        self.run: Any = None

    def take(self, frame: Any) -> None:
        match frame:
            case Snapshot():
                self.state, self.epoch, self.seq = frame.state, frame.epoch, frame.seq
                self.snapshots += 1
                self.run = frame.run
            case Update():
                assert frame.base == self.seq, f"an update from {frame.base} after {self.seq}"
                assert frame.seq >= self.seq
                assert frame.epoch >= self.epoch
                self.state = apply(self.state, frame.ops)
                self.epoch, self.seq = frame.epoch, frame.seq
                self.updates += 1
            case Run():
                self.run = frame.run

    @property
    def since(self) -> dict[str, int] | None:
        return {"epoch": self.epoch, "seq": self.seq} if self.seq >= 0 else None


class Client:
    """One connection. `views` may be carried from one connection to the next, as a reader's memory."""

    def __init__(self, socket: ClientConnection, encoding: Encoding) -> None:
        self.socket = socket
        self.encoding: Encoding = encoding
        self.views: dict[str, View] = {}
        self.commands: dict[str, CommandState] = {}
        self.errors: list[Error] = []
        self.frames: list[Any] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.socket.close()

    def cut(self) -> None:
        """Drops the connection without a word."""
        self.socket.transport.abort()

    async def send(self, *frames: dict[str, Any]) -> None:
        message = encode_value(list(frames) if len(frames) != 1 else frames[0], self.encoding)
        await self.socket.send(message.decode() if self.encoding == "json" else message)

    async def open(self, thread: str, **fields: Any) -> View:
        view = self.views.setdefault(thread, View())
        frame = {"type": "open", "thread": thread, **fields}
        if view.since is not None and "since" not in fields:
            frame["since"] = view.since
        await self.send(frame)
        return view

    async def say(self, thread: str, id: str, text: str, **fields: Any) -> None:
        message = {"role": "user", "parts": [{"type": "text", "text": text}], "id": f"m-{id}"}
        command = {"type": "add-message", "message": message}
        await self.send({"type": "command", "thread": thread, "id": id, "command": command, **fields})

    async def receive(self) -> list[Any]:
        """The frames of the next message, taken into the views."""
        data = await self.socket.recv()
        frames = decode_server_message(data, self.encoding)
        for frame in frames:
            self.frames.append(frame)
            match frame:
                case Snapshot() | Update() | Run():
                    if frame.thread in self.views:
                        self.views[frame.thread].take(frame)
                case CommandState():
                    self.commands[frame.id] = frame
                case Error():
                    self.errors.append(frame)
        return frames

    async def until(self, condition: Callable[[], Any], timeout_s: float = 20) -> None:
        """Receives until the condition holds."""
        with anyio.fail_after(timeout_s):
            while not condition():
                await self.receive()

    async def until_run(self, thread: str, *statuses: str, timeout_s: float = 20) -> None:
        view = self.views[thread]
        await self.until(lambda: view.run is not None and view.run.status in statuses, timeout_s)


def user_messages(state: Json) -> list[str]:
    """The ids of the users' messages that the scripted agent has put into a state."""
    return [message["id"] for message in (state or {}).get("messages", []) if message["role"] == "user"]
