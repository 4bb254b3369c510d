"""One message in, its answer out: `echo question | threadwire chat URL`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...client.runtimes.assistant_transport import AssistantTransportRuntime
from ...messages.model import ThreadAssistantMessage, message_text
from ..errors import StartupError


async def ask(
    runtime: AssistantTransportRuntime, text: str, attachments: Sequence[Path], write: Callable[[str], None]
) -> None:
    """Sends the text and writes the answer's text as it comes, with a line's end after it.

    Raises:
        StartupError: the run failed, was stopped, or waits for an answer that nobody can give here.
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

    for path in attachments:
        await runtime.composer.add_attachment(path)
    leave = runtime.subscribe(show)
    try:
        runtime.composer.text = text
        await runtime.composer.send()
        await runtime.idle()
        show()
    finally:
        leave()
        if written:
            write("\n")
    run = runtime.thread.run
    if run is not None and run.status == "failed":
        raise StartupError(f"the agent failed: {run.error.message if run.error else 'it does not say why'}")
    if run is not None and run.status in ("cancelled", "waiting"):
        raise StartupError(f"the run is {run.status}")
