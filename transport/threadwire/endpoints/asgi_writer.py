"""A connection's way out on any ASGI server: its `send`, tried at once, finished in a task where it waits.

Most sends only put bytes into a buffer and never wait. A task for each would cost more than the
send itself, so a send is started right away, in the step that makes the message; only one that
has to wait is given to a task, and until it is through the connection isn't writable.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from starlette.types import Send

logger = logging.getLogger("threadwire")


class AsgiWriter:
    """A `Writer` of whole messages, which the ASGI server frames.

    Args:
        text: whether messages are text.
        start: runs a coroutine function in the connection's task group.
    """

    def __init__(
        self,
        send: Send,
        *,
        text: bool,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        self._send = send
        self._text = text
        self._start = start
        self._waiting: deque[bytes] = deque()
        self._sending = False
        self._gone = False
        self._begun: _Begun | None = None
        self.on_writable: Callable[[], None] | None = None
        self.last_received = math.inf
        """Unknown here: the ASGI server's own pings tell who is gone."""

    @property
    def writable(self) -> bool:
        return not (self._sending or self._gone)

    def write(self, message: bytes) -> None:
        self._waiting.append(message)
        if self.writable:
            self._send_now()

    def offer(self, message: bytes) -> bool:
        if not self.writable:
            return False
        self.write(message)
        return True

    def buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        """Sends nothing more; the server closes when the application returns."""
        self._gone = True
        self._waiting.clear()
        # A reader that waits until answers have gone out would not be told otherwise.
        self.last_received = -math.inf

    def _send_now(self) -> None:
        try:
            while self._waiting:
                steps = self._event(self._waiting.popleft()).__await__()
                try:
                    waits_for = next(steps)
                except StopIteration:
                    continue
                self._sending = True
                self._begun = _Begun(steps, waits_for)
                self._start(self._finish)
                return
        except Exception as error:
            self._failed(error)

    async def _finish(self) -> None:
        """Waits for the send that had to, and sends what has come meanwhile."""
        try:
            begun, self._begun = self._begun, None
            if begun is not None:
                await begun
            while self._waiting:
                await self._event(self._waiting.popleft())
        except Exception as error:
            self._failed(error)
        finally:
            self._sending = False
        if not self._gone and self.on_writable is not None:
            self.on_writable()

    def _failed(self, error: Exception) -> None:
        # Not raised: whoever writes an update has others to write it to.
        if not isinstance(error, OSError):  # ASGI's way to say that the client is gone
            logger.error("the ASGI server did not send", exc_info=error)
        self.abort()

    def _event(self, message: bytes) -> Awaitable[None]:
        if self._text:
            return self._send({"type": "websocket.send", "text": message.decode()})
        return self._send({"type": "websocket.send", "bytes": message})


class _Begun:
    """The rest of an awaitable that was started outside of a task and stopped to wait for something."""

    def __init__(self, steps: Generator[Any, Any, None], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            step: Callable[[Any], Any] = self._steps.send
            try:
                answer = yield waits_for
            except BaseException as error:
                step, answer = self._steps.throw, error
            try:
                waits_for = step(answer)
            except StopIteration:
                return
