"""What hosting a graph adds to streaming it: per token, per superstep, and for a run's beginning and end.

    python -m benchmarks.langgraph [--quick] [--json FILE]

N is the number of messages that the conversation has already. "astream" is the graph alone, streamed
in the modes that the host reads and dropped; all else is the same with each event put into a state,
from the first token to the last, so what it adds is what is over "astream". assistant-stream's own
way to do so, `append_langgraph_event`, reads two of the modes. What the engine then does with
operations is measured in `benchmarks.engine`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

from benchmarks.support import TOKEN, Block, Figure, command_line, installed, interleave, median, ratio
from threadwire.core.codec import encode_log
from threadwire.core.document import Document
from threadwire.core.draft import Draft
from threadwire_agents.langgraph.converter import MODES, Converter

SIZES: Final = (10, 2000)
PEER: Final = "assistant-stream"
PEER_MODES: Final = ["messages", "updates"]
SUPERSTEPS: Final = 20
FLAT: Final = 1.25
"""What a longer history may cost more."""


class Speaker(BaseChatModel):
    """Streams so many tokens."""

    tokens: int

    @property
    def _llm_type(self) -> str:
        return "speaker"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(self.tokens):
            await asyncio.sleep(0)  # as if it came from afar: else all are made before the first is read
            yield ChatGenerationChunk(message=AIMessageChunk(content=TOKEN))


def talker(tokens: int) -> Any:
    """A graph of one node, whose model streams so many tokens."""
    model = Speaker(tokens=tokens)

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke("go")]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    return builder.compile()


def stepper(steps: int) -> Any:
    """A graph of one node after the other, each of which adds a message."""

    def node(number: int) -> Any:
        async def step(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage("done", id=f"step-{number}")]}

        return step

    return (
        StateGraph(MessagesState)
        .add_sequence([(f"step-{number}", node(number)) for number in range(steps)])
        .add_edge(START, "step-0")
        .compile()
    )


def history(messages: int) -> list[AnyMessage]:
    """A conversation of so many messages of about 600 characters."""
    text = "Lorem ipsum dolor sit amet. " * 21
    kinds = (HumanMessage, AIMessage)
    return [kinds[number % 2](text, id=f"message-{number}") for number in range(messages)]


def stream(graph: Any, messages: Sequence[AnyMessage], modes: Sequence[str] = MODES) -> AsyncIterator[Any]:
    events: AsyncIterator[Any] = graph.astream(
        {"messages": [*messages]},
        {"recursion_limit": 1000},
        stream_mode=modes,
        subgraphs=True,
        version="v1",
    )
    return events


class Host:
    """The host's part: a draft of a document that shows the history, and a converter that writes to it."""

    def __init__(self, messages: Sequence[AnyMessage]) -> None:
        self.document = Document({})
        self.converter = Converter(Draft(self.document), messages="messages")
        self.converter.settle({"messages": [*messages]})
        self.document.cut()


# tokens


def plain_block(messages: int, tokens: int) -> Block:
    graph, before = talker(tokens), history(messages)

    async def block() -> float:
        begun = ended = 0.0
        async for _, mode, _ in stream(graph, before):
            if mode == "messages":
                begun = begun or time.process_time()
            elif begun and not ended:
                ended = time.process_time()
        return (ended - begun) / tokens * 1e6

    return block


def host_block(messages: int, tokens: int, *, cut: bool) -> Block:
    """`cut`: each token's operations are taken out of the document, as for a frame of their own."""
    graph, before = talker(tokens), history(messages)

    async def block() -> float:
        host = Host(before)
        feed, take = host.converter.feed, host.document.cut
        begun = ended = 0.0
        async for namespace, mode, payload in stream(graph, before):
            if mode == "messages":
                begun = begun or time.process_time()
            elif begun and not ended:
                ended = time.process_time()
            feed(namespace, mode, payload)
            if cut:
                take()
        return (ended - begun) / tokens * 1e6

    return block


def peer_block(messages: int, tokens: int) -> Block:
    """assistant-stream's state, written in a run of its own whose chunks are dropped."""
    from assistant_stream import create_run
    from assistant_stream.modules.langgraph import append_langgraph_event

    graph, before = talker(tokens), history(messages)
    shown = [message.model_dump() for message in before]

    async def block() -> float:
        begun = ended = 0.0

        async def write(controller: Any) -> None:
            nonlocal begun, ended
            async for namespace, mode, payload in stream(graph, before, PEER_MODES):
                if mode == "messages":
                    begun = begun or time.process_time()
                elif begun and not ended:
                    ended = time.process_time()
                append_langgraph_event(controller.state, namespace, mode, payload)

        async for _ in create_run(write, state={"messages": [dict(message) for message in shown]}):
            pass
        return (ended - begun) / tokens * 1e6

    return block


async def token_figures(quick: bool) -> list[Figure]:
    tokens = 1000 if quick else 4000
    blocks: dict[str, Block] = {}
    for size in SIZES:
        blocks[f"astream: N={size}"] = plain_block(size, tokens)
        blocks[f"host: N={size}"] = host_block(size, tokens, cut=False)
        blocks[f"host, each token cut: N={size}"] = host_block(size, tokens, cut=True)
        if installed("assistant_stream"):
            # So slow that fewer tokens tell as much.
            blocks[f"{PEER}: N={size}"] = peer_block(size, max(tokens // (size // 5), 50))
    costs = await interleave(blocks, 5 if quick else 15)
    figures = []
    added: dict[str, list[float]] = {}
    for name, each in costs.items():
        who, _, size_name = name.partition(": ")
        if who == "astream":
            figures.append(Figure(name=name, value=median(each), unit="µs a token"))
            continue
        plain = costs[f"astream: {size_name}"]
        added[name] = [cost - other for cost, other in zip(each, plain, strict=True)]
        bound = {"at_most": 2.0} if who == "host" else {}
        figures.append(
            Figure(name=f"{name}, over astream", value=median(added[name]), unit="µs a token", **bound)
        )
    for size_name in (f"N={size}" for size in SIZES):
        if f"{PEER}: {size_name}" in added:
            times = ratio(added[f"{PEER}: {size_name}"], added[f"host: {size_name}"])
            figures.append(Figure(name=f"{PEER} / host: {size_name}", value=times, unit="times"))
    return figures


# by the events of a stream, fed to the host anew: what it does for them, and nothing else


async def recorded(graph: Any, messages: Sequence[AnyMessage]) -> list[Any]:
    return [event async for event in stream(graph, messages)]


async def feed_block(messages: int, tokens: int) -> Block:
    """A token, of all that come after the first."""
    before = history(messages)
    events = await recorded(talker(tokens), before)
    told = [event for event in events if event[1] == "messages"]
    first = events.index(told[0]) + 1

    async def block() -> float:
        feed = Host(before).converter.feed
        for event in events[:first]:
            feed(*event)
        begun = time.process_time()
        for event in told[1:]:
            feed(*event)
        return (time.process_time() - begun) / len(told[1:]) * 1e6

    return block


async def feed_figures(quick: bool) -> list[Figure]:
    blocks = {f"N={size}": await feed_block(size, 5000) for size in SIZES}
    costs = await interleave(blocks, 5 if quick else 15)
    (few, few_costs), (many, many_costs) = costs.items()
    return [
        *(
            Figure(name=f"feed: {size}", value=median(each), unit="µs a token")
            for size, each in costs.items()
        ),
        Figure(name=f"feed: {many} / {few}", value=ratio(many_costs, few_costs), unit="times", at_most=FLAT),
    ]


async def superstep_figures(quick: bool) -> list[Figure]:
    figures = []
    for size in SIZES:
        before = history(size)
        events = await recorded(stepper(SUPERSTEPS), before)
        first = next(place for place, (_, mode, _) in enumerate(events) if mode == "values") + 1
        values = next(payload for _, mode, payload in reversed(events) if mode == "values")
        begins, steps, ends = list[float](), list[float](), list[float]()
        for _ in range(5 if quick else 25):
            host = Host(before)
            feed = host.converter.feed
            host.converter.root.forget()  # a run reads other objects than the one before
            times = [time.process_time()]
            for event in events[:first]:
                feed(*event)
            times.append(time.process_time())
            for event in events[first:]:
                feed(*event)
            times.append(time.process_time())
            host.converter.finish()
            host.converter.settle(values)
            times.append(time.process_time())
            for costs, begun, ended in zip((begins, steps, ends), times, times[1:], strict=False):
                costs.append((ended - begun) * 1e3)
        figures += [
            Figure(
                name=f"superstep: N={size}",
                value=median(steps) / SUPERSTEPS,
                unit="ms",
                at_most=0.3,
            ),
            Figure(name=f"a run's beginning: N={size}", value=median(begins), unit="ms"),
            Figure(name=f"a run's end: N={size}", value=median(ends), unit="ms"),
        ]
    return figures


# what is sent


async def sent_figures() -> list[Figure]:
    """Operations and bytes of the log, as if each event got an update of its own."""
    tokens = 500
    figures = []
    for size in SIZES:
        before = history(size)
        host = Host(before)
        operations = written = 0
        async for namespace, mode, payload in stream(talker(tokens), before):
            host.converter.feed(namespace, mode, payload)
            cut = host.document.cut()
            if mode == "messages":
                operations += len(cut)
                written += len(encode_log(cut)) if cut else 0
        figures += [
            Figure(name=f"operations a token: N={size}", value=operations / tokens, at_most=1.01),
            Figure(name=f"bytes a token: N={size}", value=written / tokens, unit="bytes"),
        ]
    return figures


async def measure(quick: bool) -> list[Figure]:
    return [
        *await token_figures(quick),
        *await feed_figures(quick),
        *await superstep_figures(quick),
        *await sent_figures(),
    ]


if __name__ == "__main__":
    command_line("langgraph", __doc__, measure)
