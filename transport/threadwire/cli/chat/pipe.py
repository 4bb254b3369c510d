"""One message in, its answer out: `echo question | threadwire chat URL`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from ...client.runtimes.assistant_transport import AssistantTransportRuntime
from ...messages.model import ThreadAssistantMessage, message_text
from ..errors import StartupError


async def ask(
    runtime: AssistantTransportRuntime, text: str, attachments: Sequence[Path], write: Callable[[str], None]
) -> None:
    """Sends the text and writes the answer's text as it comes, with a line's end after it.

    Raises:
        StartupError: the run failed, was stopped, or waits for an answer that nobody can give here.
        ExceptionGroup: of what `write` or the connection raised; the run goes on.
    """
    before = {message.id for message in runtime.messages}
    written: dict[str, int] = {}

    def show() -> None:
        for message in runtime.messages:
            if message.id in before or not isinstance(message, ThreadAssistantMessage):
                continue
            answer = message_text(message)
            out = written.get(message.id)
            if out is None and answer and written:
                write("\n\n")
            if answer:
                written[message.id] = max(out or 0, len(answer))
                write(answer[out or 0 :])

    async def follow() -> None:
        while True:
            show()
            await runtime.changed()

    for path in attachments:
        await runtime.composer.add_attachment(path)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            runtime.composer.text = text
            await runtime.composer.send()
            await runtime.idle()
            tasks.cancel_scope.cancel()
        show()
    finally:
        if written:
            write("\n")
    run = runtime.thread.run
    if run is not None and run.status == "failed":
        raise StartupError(f"the agent failed: {run.error.message if run.error else 'it does not say why'}")
    if run is not None and run.status in ("cancelled", "waiting"):
        raise StartupError(f"the run is {run.status}")
