"""How the connection pump writes past ASGI: one update framed once, its bytes given to every connection.

ASGI's `send` frames each message anew for each connection and tells nothing of a client's lag. A
server that can do better puts a `Writer` into the connection's scope, under
`scope["extensions"][EXTENSION]`; on any other ASGI server there is none and the pump uses `send`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Protocol

EXTENSION: Final = "threadwire.writer"
"""The key of the `Writer` in `scope["extensions"]`."""

_FIN_TEXT: Final = 0x81
_FIN_BINARY: Final = 0x82
_head_16: Final = struct.Struct("!BBH").pack
_head_64: Final = struct.Struct("!BBQ").pack


def frame_message(payload: bytes, *, text: bool) -> bytes:
    """The WebSocket frame of a whole message as a server sends it: final, unmasked, uncompressed.

    Legal on a connection that negotiated permessage-deflate too, since compression is chosen per
    message. `payload` of a text message is UTF-8; that isn't checked. (RFC 6455 §5.2, RFC 7692 §6.)
    """
    head = _FIN_TEXT if text else _FIN_BINARY
    size = len(payload)
    if size < 126:
        return bytes((head, size)) + payload
    if size < 65536:
        return _head_16(head, 126, size) + payload
    return _head_64(head, 127, size) + payload


class Writer(Protocol):
    """One open connection's way out. All calls are made on the event loop's thread; none waits."""

    last_received: float
    """`loop.time()` of the last bytes that came in, whatever they were (pongs included)."""

    on_writable: Callable[[], None] | None
    """Called each time `writable` becomes True again after the client had been too slow."""

    @property
    def writable(self) -> bool:
        """Whether more should be written: the connection is open, the client keeps up."""
        ...

    def write(self, framed: bytes) -> None:
        """Queues whole frames (see `frame_message`), in order with what ASGI's `send` writes.

        While not `writable` for slowness it still queues, without a bound: hold back what can wait.
        Before the handshake, once a close frame was sent or received, and after the connection is
        lost, nothing happens.
        """
        ...

    def offer(self, framed: bytes) -> bool:
        """`write` where it is `writable`, else nothing; whether it was."""
        ...

    def buffer_size(self) -> int:
        """Bytes queued that the operating system has not taken yet."""
        ...

    def abort(self) -> None:
        """Drops the connection at once with all that is queued, for a client that is gone."""
        ...
