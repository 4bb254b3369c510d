"""Several server processes behind one port: started, started again when they die, and stopped together.

The sockets are opened here and inherited by each process, so that the system spreads connections over them.
What they share otherwise is the store. This process serves nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from .errors import StartupError

logger = logging.getLogger("threadwire")

VARIABLE: Final = "THREADWIRE_INHERITED"
"""For a worker, as numbers of files: the sockets it listens on, the pipe it says on that it has started, and
one that is closed when the process is gone that started it; with colons between."""

_AGAIN_S: Final = 1.0
"""How long a worker's place stays empty after it died, doubled each time up to a minute."""
_STARTED_S: Final = 120.0
_ENDED_S: Final = 5.0
"""How long a worker that did not start may take to end."""


@dataclass(frozen=True)
class Inherited:
    """What a worker was given."""

    listeners: list[socket.socket]
    pipe: int
    parent: int

    def started(self) -> None:
        with suppress(OSError):
            os.write(self.pipe, b"1")
            os.close(self.pipe)

    def watch(self, stop: Callable[[], None]) -> None:
        """Calls `stop` when the process that started this one is gone: nobody else would stop it."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self.parent)
            stop()

        loop.add_reader(self.parent, gone)


def inherited(environ: Mapping[str, str]) -> Inherited | None:
    """What this process was given, where it is a worker."""
    text = environ.get(VARIABLE)
    if not text:
        return None
    numbers, pipe, parent = text.split(":")
    listeners = [socket.socket(fileno=int(number)) for number in numbers.split(",")]
    return Inherited(listeners, int(pipe), int(parent))


def stop_signals() -> list[signal.Signals]:
    """Those that ask for an orderly stop: also a terminal's end, unless it is to be outlived (`nohup`)."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    return numbers


class Workers:
    """Runs `count` processes of this command until it is told to stop.

    Args:
        arguments: of the command, as this process was given them.
        stop_s: how long they may take to stop.
    """

    def __init__(
        self, count: int, arguments: Sequence[str], listeners: Sequence[socket.socket], *, stop_s: float
    ) -> None:
        if os.name != "posix":
            raise StartupError("--workers: this system can't share a port between processes")
        self._count = count
        self._command = [sys.executable, "-m", "threadwire", *arguments, "--workers", "1"]
        self._listeners = listeners
        self._stop_s = stop_s
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._lifeline, self._held = os.pipe()
        """Workers have the one end, only this process has the other."""

    async def run(self, on_started: Callable[[], None]) -> int:
        """The exit status. Raises StartupError where a worker can't start."""
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self._stop)
        places: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._keep(place)) for place in range(self._count)
        ]
        ended: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        starting: asyncio.Future[Any] = asyncio.ensure_future(self._start_all(on_started))
        try:
            await asyncio.wait([ended, starting], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
            await asyncio.wait([ended, *places], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            await self._end()
            for task in (ended, starting, *places):
                task.cancel()
            await asyncio.gather(ended, starting, *places, return_exceptions=True)
            os.close(self._held)
            os.close(self._lifeline)
        return 130 if self._forced.is_set() else 0

    async def _start_all(self, on_started: Callable[[], None]) -> None:
        # The first makes the tables of a new store; one that can't start ends it all.
        for place in range(self._count):
            await self._start(place)
            if self._stopping.is_set():
                return
        on_started()

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._forced.set()
        self._stopping.set()

    async def _start(self, place: int) -> None:
        """Returns when the worker accepts connections. Raises StartupError where it doesn't come so far."""
        reading, writing = os.pipe()
        try:
            numbers = [listener.fileno() for listener in self._listeners]
            process = await asyncio.create_subprocess_exec(
                *self._command,
                pass_fds=[*numbers, writing, self._lifeline],
                env={**os.environ, VARIABLE: f"{','.join(map(str, numbers))}:{writing}:{self._lifeline}"},
                start_new_session=True,  # Ctrl-C is for this process, which tells them
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._running[place] = process
        if not await _said(reading):
            hangs = asyncio.get_running_loop().call_later(_ENDED_S, self._kill, [process])
            status = await process.wait()
            hangs.cancel()
            if not self._stopping.is_set():
                raise StartupError(f"a worker ended with the status {status} before it served")

    async def _keep(self, place: int) -> None:
        """Fills the place again whenever its worker dies."""
        wait_s = _AGAIN_S
        while not self._stopping.is_set():
            process = self._running.get(place)
            if process is None:
                await asyncio.sleep(0.05)
                continue
            began = asyncio.get_running_loop().time()
            status = await process.wait()
            if self._stopping.is_set():
                return
            if asyncio.get_running_loop().time() - began > 60:
                wait_s = _AGAIN_S
            logger.error("worker %d ended with the status %d; it is started again", place + 1, status)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            wait_s = min(2 * wait_s, 60)
            if not self._stopping.is_set():
                try:
                    await self._start(place)
                except StartupError as error:
                    logger.error("worker %d: %s", place + 1, error)

    async def _end(self) -> None:
        """Stops all workers in order; at once, where that takes too long or was asked for."""
        running = [process for process in self._running.values() if process.returncode is None]
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        ends = [asyncio.ensure_future(process.wait()) for process in running]
        forced = asyncio.ensure_future(self._forced.wait())
        all_ended = asyncio.gather(*ends)
        forced.add_done_callback(lambda task: None if task.cancelled() else self._kill(running))
        late = asyncio.get_running_loop().call_later(self._stop_s, self._kill, running)
        await all_ended
        late.cancel()
        forced.cancel()

    def _kill(self, running: Sequence[asyncio.subprocess.Process]) -> None:
        for process in running:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()


async def _said(pipe: int) -> bool:
    """Whether anything was written to the pipe before it was closed at the other end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def read() -> None:
        loop.remove_reader(pipe)
        if not answer.done():
            answer.set_result(bool(os.read(pipe, 1)))

    loop.add_reader(pipe, read)
    try:
        return await asyncio.wait_for(answer, _STARTED_S)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
