"""The command itself: the connection, and which of the two ways to talk."""

from __future__ import annotations

import io
import logging
import sys
import uuid
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.to_thread

from ...client.connection import Connection, connect
from ...client.errors import ClientError
from ...client.runtimes.assistant_transport import AssistantTransportRuntime
from ...client.runtimes.attachments import (
    CompositeAttachmentAdapter,
    SimpleImageAttachmentAdapter,
    SimpleTextAttachmentAdapter,
)
from ...client.runtimes.external_store import RuntimeAdapters
from ...client.runtimes.langchain_state import LangChainConverter
from ...core.errors import ConnectionClosed, Refused
from ...messages.mixed import convert_any_message
from ..errors import StartupError
from .arguments import ChatSettings, http_url
from .pipe import ask
from .printable import printable


def chat(settings: ChatSettings) -> int:
    """Talks; the command's exit status.

    Raises:
        StartupError: the server isn't there or refuses, something that is needed isn't installed, or
            over a pipe the run failed.
    """
    logging.getLogger("threadwire.client").addHandler(logging.NullHandler())
    logging.getLogger("threadwire.client").propagate = False
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what its encoding lacks is no reason to fail
    piped = not all(each is not None and each.isatty() for each in (sys.stdin, sys.stdout))
    try:
        if piped:
            anyio.run(_pipe, settings)
        else:
            anyio.run(_terminal, settings)
    except* (ConnectionClosed, Refused, ClientError) as group:
        error = _first(group)
        said = error.reason if isinstance(error, ConnectionClosed) and error.reason else str(error)
        raise StartupError(printable(said)) from None
    except* BrokenPipeError:
        raise BrokenPipeError from None
    except* StartupError as group:
        raise StartupError(printable(str(_first(group)))) from None
    return 0


def new_runtime(connection: Connection, thread: str, settings: ChatSettings) -> AssistantTransportRuntime:
    """The runtime of a thread, for messages of any form, with files as attachments."""
    attachments = CompositeAttachmentAdapter([SimpleImageAttachmentAdapter(), SimpleTextAttachmentAdapter()])
    return AssistantTransportRuntime(
        connection,
        thread,
        agent=settings.agent,
        converter=LangChainConverter(callback=convert_any_message),
        adapters=RuntimeAdapters(attachments=attachments),
        on_error=lambda *_: None,  # whoever sent it is told
    )


def new_thread_id() -> str:
    """An id that no other thread has."""
    return uuid.uuid4().hex


async def _pipe(settings: ChatSettings) -> None:
    text = (await anyio.to_thread.run_sync(_read)).strip()
    if not text and not settings.attachments:
        raise StartupError("there is nothing to send: the input is empty")
    thread = settings.thread or new_thread_id()
    async with (
        connect(settings.url, token=settings.token) as connection,
        new_runtime(connection, thread, settings) as runtime,
    ):
        await ask(runtime, text, settings.attachments, _write)


def _read() -> str:
    """All that is on the input."""
    if sys.stdin is None:  # it was closed
        return ""
    try:
        text = sys.stdin.read()
        text.encode()  # where the input is read leniently, what is no text is half a character
    except UnicodeError:
        raise StartupError("the input is no text") from None
    return text


def _write(text: str) -> None:
    if sys.stdout is None:  # it was closed
        return
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


async def _terminal(settings: ChatSettings) -> None:
    try:
        import httpx
        from rich.console import Console

        from ...client.runtimes.server_threads import ServerThreads
        from .actions import Actions
        from .terminal import RichScreen, Terminal
    except ImportError as error:
        raise StartupError(f"{error.name} is not installed: pip install 'threadwire[cli]'") from error
    headers = {} if settings.token is None else {"authorization": f"Bearer {settings.token}"}
    thread: str | None = settings.thread or new_thread_id()
    listed: list[str] = []
    screen = RichScreen(Console(force_terminal=True))
    async with (
        connect(settings.url, token=settings.token) as connection,
        httpx.AsyncClient(base_url=http_url(settings.url), headers=headers) as client,
    ):
        threads = ServerThreads(client, agent=settings.agent)
        screen.say(f"agents: {', '.join(connection.agents)}   /help tells what there is")
        here: str | None = None
        while thread is not None:
            async with AsyncExitStack() as stack:
                try:
                    runtime = await stack.enter_async_context(new_runtime(connection, thread, settings))
                except Refused as error:
                    if here is None:
                        raise
                    screen.say(f"{thread}: {error}")
                    thread, here = here, None
                    continue
                here = thread
                actions = Actions(runtime, screen.say, threads=threads, new_id=new_thread_id, listed=listed)
                for path in settings.attachments:
                    await runtime.composer.add_attachment(path)
                thread = (await Terminal(connection, runtime, screen, actions).talk()).thread


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
