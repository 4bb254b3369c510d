"""A thread's checkpoints as one run sees them: the latest is the one the thread's log names, its head.

LangGraph continues from what its checkpointer says is the latest checkpoint of a thread. That may be
one of another branch, or of a process that no longer owns the thread. So a run is given this in place
of the checkpointer: asked for the latest it answers with the head, and each checkpoint that the run
saves becomes the head once it is durable.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.pregel import Pregel

from threadwire.core.errors import AgentError

_ERROR = "__error__"
"""The channel of what a task has failed with."""

Saver = BaseCheckpointSaver[Any]

RUN = "threadwire_run"
EPOCH = "threadwire_epoch"
COMMANDS = "threadwire_commands"
"""Metadata of each checkpoint: the run, its owner's epoch, and the ids of the commands it carries out."""


class CheckpointLost(Exception):
    """The checkpointer doesn't have what was noted of the thread, as after a restart of one in memory."""


_ASYNC_IN_NAME: Final = "langgraph.checkpoint.sqlite.SqliteSaver"
"""Has the async methods too, each of which only says that there are none."""


def check_saver(saver: Saver) -> None:
    """Raises ValueError for a checkpointer that has no async side."""
    read = type(saver).aget_tuple
    if read is BaseCheckpointSaver.aget_tuple or f"{read.__module__}.{read.__qualname__}".startswith(
        f"{_ASYNC_IN_NAME}."
    ):
        raise ValueError(
            f"the checkpointer {type(saver).__name__} can't be used asynchronously; use its async variant"
        )


def own_saver(graph: Pregel[Any, Any, Any, Any]) -> Saver | None:
    """The checkpointer that the graph was compiled with. Raises ValueError for one that has no async side."""
    found = graph.checkpointer
    if not isinstance(found, BaseCheckpointSaver):
        return None
    check_saver(found)
    return found


def saver_for(graph: Pregel[Any, Any, Any, Any], saver: Saver) -> Saver:
    """The checkpointer that gives back values of the types that the graph's schemas name.

    In LangGraph's strict mode (`LANGGRAPH_STRICT_MSGPACK`) it gives back those that it was told of, which is
    done where a graph is compiled with it.
    """
    types = getattr(graph, "_serde_allowlist", None)
    return saver if types is None else saver.with_allowlist(types)


class HeadSaver(Saver):
    """`inner`, with `head` as the latest checkpoint; None where the thread begins.

    Args:
        metadata: texts that each checkpoint is marked with.
        saved: called with a checkpoint's id, that of the one before and its values, once it is durable.
    """

    def __init__(
        self,
        inner: Saver,
        head: str | None,
        *,
        metadata: Mapping[str, str],
        saved: Callable[[str, str | None, Checkpoint], None],
    ) -> None:
        super().__init__(serde=inner.serde)
        self.head = head
        self.read: CheckpointTuple | None = None
        """The head as it was read last, if it could be."""
        self._inner = inner
        self._metadata = metadata
        self._saved = saved
        self._takes_path = "task_path" in inspect.signature(inner.aput_writes).parameters

    # the head

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        pinned = self._pin(config)
        if pinned is None:
            self.read = None
            return None
        found = await self._inner.aget_tuple(pinned)
        given = pinned["configurable"]
        if found is None and not given.get("checkpoint_ns"):
            raise CheckpointLost(given["checkpoint_id"])
        if pinned is not config:
            self.read = found
        return found

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        pinned = self._pin(config)
        return None if pinned is None else self._inner.get_tuple(pinned)

    def _pin(self, config: RunnableConfig) -> RunnableConfig | None:
        """The config with the head in it where it asks for the latest; None where there is none."""
        given = config["configurable"]
        if given.get("checkpoint_id") or given.get("checkpoint_ns"):
            return config
        if self.head is None:
            return None
        return {**config, "configurable": {**given, "checkpoint_id": self.head}}

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        with self._naming_what_fails(checkpoint["channel_values"].items()):
            saved = await self._inner.aput(config, checkpoint, self._marked(metadata), new_versions)
        self._move(config, checkpoint)
        return saved

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        # From the thread of a node that isn't async: of a subgraph it calls, never of the graph itself.
        with self._naming_what_fails(checkpoint["channel_values"].items()):
            return self._inner.put(config, checkpoint, self._marked(metadata), new_versions)

    @contextmanager
    def _naming_what_fails(self, values: Iterable[tuple[str, Any]]) -> Iterator[None]:
        """Raises AgentError for a value that can't be stored; the checkpointer's own error names none."""
        try:
            yield
        except TypeError:
            for name, value in values:
                try:
                    self.serde.dumps_typed(value)
                except TypeError as error:
                    text = f"the graph can't store what was written to {name!r}: {error}"
                    raise AgentError(text, code="value-not-storable") from error
            raise

    def _marked(self, metadata: CheckpointMetadata) -> Any:
        return {**metadata, **self._metadata}

    def _move(self, config: RunnableConfig, checkpoint: Checkpoint) -> None:
        given = config["configurable"]
        if not given.get("checkpoint_ns"):
            self.head = checkpoint["id"]
            self._saved(checkpoint["id"], given.get("checkpoint_id"), checkpoint)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> HeadSaver:
        # Asked for by each subgraph, of its own types; a clone would have a head of its own.
        self._inner = self._inner.with_allowlist(extra_allowlist)
        self.serde = self._inner.serde
        return self

    # the rest is the inner one's

    @property
    def config_specs(self) -> list[Any]:
        return self._inner.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._inner.get_next_version(current, channel)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        path = (task_path,) if self._takes_path else ()
        with self._naming_what_fails(writes):
            await self._inner.aput_writes(config, _whole(writes), task_id, *path)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        path = (task_path,) if self._takes_path else ()
        with self._naming_what_fails(writes):
            self._inner.put_writes(config, _whole(writes), task_id, *path)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        async for found in self._inner.alist(config, filter=filter, before=before, limit=limit):
            yield found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        yield from self._inner.list(config, filter=filter, before=before, limit=limit)

    async def aget_delta_channel_history(self, **asked: Any) -> Any:
        read, self.read = self.read, None
        found = await self._inner.aget_delta_channel_history(**asked)
        self.read = read
        return found

    def get_delta_channel_history(self, **asked: Any) -> Any:
        return self._inner.get_delta_channel_history(**asked)

    async def adelete_thread(self, thread_id: str) -> None:
        await self._inner.adelete_thread(thread_id)

    def delete_thread(self, thread_id: str) -> None:
        self._inner.delete_thread(thread_id)


def _whole(writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """What a task has written, without what one that was cancelled had written until then.

    LangGraph keeps that too, and takes the task for done when it goes on: without its edges, if it was
    cancelled while these were worked out.
    """
    cancelled = (asyncio.CancelledError, concurrent.futures.CancelledError)
    if any(channel == _ERROR and isinstance(value, cancelled) for channel, value in writes):
        return [write for write in writes if write[0] in WRITES_IDX_MAP]
    return writes
