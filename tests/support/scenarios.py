"""Graphs of every kind that a host meets, each as small as it can be; they stream what their scripts say."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypedDict

import anyio
from langchain.agents import create_agent
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import tool
from langgraph.channels.delta import DeltaChannel
from langgraph.config import get_stream_writer
from langgraph.constants import TAG_NOSTREAM
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import RetryPolicy, Send
from pydantic import BaseModel, Field

from tests.support.graphs import Piece, ScriptedModel, WholeModel, call_piece, last_piece

USAGE: Final[UsageMetadata] = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}


@dataclass(frozen=True)
class Scenario:
    """Attributes:
    build: makes the graph, or what LangGraphAgent takes for one; the checkpointer is left to the host.
    says: the conversation when it has ended, as `type: text`; empty where that is not looked at.
    input: the channel that a message goes into.
    edits: whether the graph changes messages that it has.
    """

    build: Callable[[], Any]
    says: list[str]
    input: str | None = None
    edits: bool = False


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(*says: str, **options: Any) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(build: Callable[[], Any]) -> Callable[[], Any]:
        SCENARIOS[build.__name__] = Scenario(build, list(says), **options)
        return build

    return add


def talking(*script: Any, schema: Any = MessagesState) -> Any:
    """A graph of one node, which asks a model of this script."""
    model = ScriptedModel(script=list(script))

    async def talk(state: Any) -> Any:
        messages = state["messages"] if isinstance(state, dict) else state.messages
        return {"messages": [await model.ainvoke(messages)]}

    return one_node(talk, schema)


def one_node(node: Any, schema: Any = MessagesState, **options: Any) -> Any:
    builder = StateGraph(schema)
    builder.add_node("talk", node, **options)
    builder.add_edge(START, "talk")
    return builder.compile()


def chain(*nodes: Any, schema: Any = MessagesState) -> Any:
    """A graph of nodes one after the other."""
    return StateGraph(schema).add_sequence(list(nodes)).add_edge(START, _name(nodes[0])).compile()


def _name(node: Any) -> str:
    return str(node[0] if isinstance(node, tuple) else node.__name__)


@tool
async def add(a: int, b: int) -> int:
    """Adds."""
    get_stream_writer()({"adding": a})
    return a + b


# 1, 2, 5: agents with tools


@scenario("human: hi", "ai: let me see", "tool: 3", "ai: it is three")
def react_turn() -> Any:
    model = ScriptedModel(
        script=[
            [
                "let me",
                " see",
                call_piece(0, name="add", id="call-1"),
                call_piece(0, '{"a": 1,'),
                call_piece(0, ' "b":2}'),
                last_piece(),
            ],
            ["it is", " three", last_piece(usage_metadata=USAGE)],
        ]
    )
    return create_agent(model, [add])


@scenario("human: hi", "ai: ", "tool: 3", "tool: 30", "ai: done")
def parallel_tool_arguments() -> Any:
    model = ScriptedModel(
        script=[
            [
                call_piece(0, name="add", id="call-1"),
                call_piece(1, name="add", id="call-2"),
                call_piece(0, '{"a": 1'),
                call_piece(1, '{"a": 10'),
                call_piece(0, ', "b": 2}'),
                call_piece(1, ', "b": 20}'),
                last_piece(),
            ],
            ["done", last_piece()],
        ]
    )
    return create_agent(model, [add])


@scenario("human: hi", "ai: ", "tool: slow", "tool: fast", "ai: done")
def tools_out_of_order() -> Any:
    fast_is_done = asyncio.Event()

    @tool
    async def slow() -> str:
        """Slow."""
        with anyio.fail_after(60):
            await fast_is_done.wait()
        await anyio.lowlevel.checkpoint()
        return "slow"

    @tool
    async def fast() -> str:
        """Fast."""
        fast_is_done.set()
        return "fast"

    model = ScriptedModel(
        script=[
            [
                call_piece(0, "{}", name="slow", id="call-1"),
                call_piece(1, "{}", name="fast", id="call-2"),
                last_piece(),
            ],
            ["done", last_piece()],
        ]
    )
    return create_agent(model, [slow, fast])


# 3: ids


@scenario("human: hi", "ai: one two three")
def id_changes_midstream() -> Any:
    return talking(
        ["one", AIMessageChunk(content=" two", id="resp_1"), " three", last_piece()],
    )


@scenario("human: hi", "ai: one two three")
def provider_id_in_every_chunk() -> Any:
    words = ["one", " two", " three"]
    return talking([*[AIMessageChunk(content=word, id="resp_1") for word in words], last_piece(id="resp_1")])


# 4, 6: at once


def _letters(letter: str) -> list[Any]:
    return [letter, letter, letter, last_piece()]


@scenario("human: hi", "ai: aaa", "ai: bbb")
def two_calls_in_one_node() -> Any:
    first, second = (ScriptedModel(script=[_letters(letter)]) for letter in "ab")

    async def talk(state: MessagesState) -> Any:
        said = await asyncio.gather(first.ainvoke(state["messages"]), second.ainvoke(state["messages"]))
        return {"messages": list(said)}

    return one_node(talk)


@scenario("human: hi", "ai: bbb", "ai: aaa")
def two_calls_returned_the_other_way_round() -> Any:
    first, second = (ScriptedModel(script=[_letters(letter)]) for letter in "ab")

    async def talk(state: MessagesState) -> Any:
        said = await asyncio.gather(first.ainvoke(state["messages"]), second.ainvoke(state["messages"]))
        return {"messages": said[::-1]}

    return one_node(talk)


@scenario("human: hi", "ai: aaa", "ai: bbb", "ai: ccc", "ai: end")
def send_fan_out() -> Any:
    async def talk(job: Any) -> Any:
        return {"messages": [await ScriptedModel(script=[_letters(job["letter"])]).ainvoke("go")]}

    async def end(state: MessagesState) -> Any:
        return {"messages": [await ScriptedModel(script=[["e", "nd"]]).ainvoke("go")]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("talk", talk)
    builder.add_node("end", end)
    builder.add_conditional_edges(START, lambda state: [Send("talk", {"letter": each}) for each in "abc"])
    builder.add_edge("talk", "end")
    return builder.compile()


# 7, 8, 9: what a node makes of what was streamed


@scenario("human: hi", "ai: one two")
def rewrapped_message() -> Any:
    model = ScriptedModel(script=[["one", " two"]])

    async def talk(state: MessagesState) -> Any:
        said = await model.ainvoke(state["messages"])
        return {"messages": [AIMessage(said.content, id="mine")]}

    return one_node(talk)


@scenario("human: hi", "ai: fixed")
def output_not_returned() -> Any:
    model = ScriptedModel(script=[["think", "ing"]])

    async def talk(state: MessagesState) -> Any:
        await model.ainvoke(state["messages"])
        return {"messages": [AIMessage("fixed")]}

    return one_node(talk)


@scenario("human: hi")
def output_of_the_last_node_not_returned() -> Any:
    model = ScriptedModel(script=[["think", "ing"]])

    async def talk(state: MessagesState) -> None:
        await model.ainvoke(state["messages"])

    return one_node(talk)


@scenario("human: hi", "ai: kept")
def output_not_returned_by_a_node_that_writes_nothing() -> Any:
    async def waste(state: MessagesState) -> None:
        await ScriptedModel(script=[["lost", " words"]]).ainvoke("go")

    return chain(waste, _speaker("keep", "ke", "pt"))


@scenario("human: hi", "ai: all at once")
def model_that_does_not_stream() -> Any:
    model = WholeModel(texts=["all at once"])

    async def talk(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return one_node(talk)


@scenario("human: hi", "ai: quiet words")
def nostream() -> Any:
    model = ScriptedModel(script=[["quiet", " words"]]).with_config(tags=[TAG_NOSTREAM])

    async def talk(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return one_node(talk)


@scenario("human: hi", "ai: static", "ai: of a dict", "human: of a tuple", "human: of a text")
def static_dict_and_tuple_messages() -> Any:
    async def static(state: MessagesState) -> Any:
        return {"messages": AIMessage("static")}

    async def others(state: MessagesState) -> Any:
        return {
            "messages": [
                {"role": "assistant", "content": "of a dict"},
                ("user", "of a tuple"),
                "of a text",
            ]
        }

    return chain(static, others)


# 10, 11: errors


@scenario("human: hi", "ai: second try")
def retry_after_partial() -> Any:
    model = ScriptedModel(script=[["first", " half", ConnectionError("cut")], ["second", " try"]])

    async def talk(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ConnectionError)
    return one_node(talk, retry_policy=policy)


# 12, 13: messages that go and change


@scenario("human: hi", "ai: two", edits=True)
def remove_one() -> Any:
    async def add_two(state: MessagesState) -> Any:
        return {"messages": [AIMessage("one", id="m1"), AIMessage("two", id="m2")]}

    async def remove(state: MessagesState) -> Any:
        return {"messages": [RemoveMessage(id="m1")]}

    return chain(add_two, remove)


@scenario("ai: fresh start", edits=True)
def remove_all() -> Any:
    model = ScriptedModel(script=[["fresh", " start"]])

    async def add_two(state: MessagesState) -> Any:
        return {"messages": [AIMessage("one"), AIMessage("two")]}

    async def remove(state: MessagesState) -> Any:
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), await model.ainvoke("go")]}

    return chain(add_two, remove)


@scenario(edits=True)
def remove_all_and_leave_none() -> Any:
    async def remove(state: MessagesState) -> Any:
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES)]}

    return one_node(remove)


@scenario("human: changed", "ai: ok", edits=True)
def message_mutated_in_place() -> Any:
    async def change(state: MessagesState) -> Any:
        message = state["messages"][0]
        message.content = "changed"
        return {"messages": [message]}

    async def end(state: MessagesState) -> Any:
        return {"messages": [await ScriptedModel(script=[["o", "k"]]).ainvoke("go")]}

    return chain(change, end)


@scenario("human: hi", "ai: a better text", edits=True)
def message_replaced_by_id() -> Any:
    async def say(state: MessagesState) -> Any:
        return {"messages": [AIMessage("a text", id="m1")]}

    async def change(state: MessagesState) -> Any:
        return {"messages": [AIMessage("a better text", id="m1")]}

    return chain(say, change)


# 14, 15: states and subgraphs


class ModelState(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = Field(default_factory=list)
    count: int = 0
    tags: set[str] = Field(default_factory=set)


@dataclass
class DataState:
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    count: int = 0


class Inner(TypedDict):
    question: str
    messages: Annotated[list[AnyMessage], add_messages]
    notes: Annotated[list[str], operator.add]


def _sub_of_another_schema() -> Any:
    model = ScriptedModel(script=[["in", "side"]])

    async def think(state: Inner) -> Any:
        return {"messages": [await model.ainvoke(state["question"])], "notes": ["thought"]}

    return chain(think, schema=Inner)


def _with_inner(schema: Any) -> Any:
    inner = _sub_of_another_schema()
    model = ScriptedModel(script=[["out", "side"]])

    async def ask(state: Any) -> Any:
        found = await inner.ainvoke({"question": "what?", "messages": []})
        return {"messages": [found["messages"][-1]], "count": state.count + 1}

    async def end(state: Any) -> Any:
        return {"messages": [await model.ainvoke("go")]}

    return chain(ask, end, schema=schema)


@scenario("human: hi", "ai: inside", "ai: outside")
def pydantic_state_with_another_schema_inside() -> Any:
    return _with_inner(ModelState)


@scenario("human: hi", "ai: inside", "ai: outside")
def dataclass_state_with_another_schema_inside() -> Any:
    return _with_inner(DataState)


def _speaker(name: str, *words: Piece) -> Any:
    model = ScriptedModel(script=[list(words)])

    async def speak(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    speak.__name__ = name
    return speak


@scenario("human: hi", "ai: from below", "ai: from above")
def subgraph_sharing_messages() -> Any:
    below = chain(_speaker("below", "from", " below"))
    return chain(("sub", below), _speaker("above", "from", " above"))


@scenario("human: hi", "ai: first", "ai: second", "ai: third")
def subgraph_of_several_steps() -> Any:
    below = chain(_speaker("one", "fir", "st"), _speaker("two", "sec", "ond"))
    return chain(("sub", below), _speaker("three", "thi", "rd"))


@scenario("human: hi", "ai: deep down", "ai: middle", "ai: top")
def subgraph_two_deep() -> Any:
    deep = chain(_speaker("deep", "deep", " down"))
    middle = chain(("deeper", deep), _speaker("middle", "mid", "dle"))
    return chain(("sub", middle), _speaker("top", "to", "p"))


@scenario("human: hi", "ai: aaa", "ai: bbb")
def two_subgraphs_at_once() -> Any:
    builder = StateGraph(MessagesState)
    for letter in "ab":
        builder.add_node(letter, chain(_speaker("speak", letter, letter, letter)))
        builder.add_edge(START, letter)
    return builder.compile()


@scenario("human: hi", "ai: one", "ai: two", "ai: beside all the time")
def subgraph_beside_a_node_that_streams() -> Any:
    go_on = asyncio.Event()

    async def wait() -> None:
        with anyio.fail_after(60):
            await go_on.wait()

    async def tell() -> None:
        go_on.set()

    async def waste(state: MessagesState) -> Any:
        await ScriptedModel(script=[["wasted", " words"]]).ainvoke("go")
        return {}

    below = chain(waste, _speaker("one", "on", "e"), _speaker("two", "tw", "o", tell))
    builder = StateGraph(MessagesState)
    builder.add_node("sub", below)
    builder.add_node("talk", _speaker("talk", "beside", wait, " all", " the time"))
    builder.add_edge(START, "sub")
    builder.add_edge(START, "talk")
    return builder.compile()


@scenario("human: hi", "ai: talking on and on")
def node_that_calls_tasks_while_it_streams() -> Any:
    @task
    async def look(number: int) -> int:
        return number

    looked = [asyncio.Event(), asyncio.Event()]
    spoken = asyncio.Event()

    def wait(event: asyncio.Event) -> Any:
        async def wait_for_it() -> None:
            with anyio.fail_after(60):
                await event.wait()

        return wait_for_it

    async def tell() -> None:
        spoken.set()

    model = ScriptedModel(
        script=[["talking", tell, wait(looked[0]), " on", wait(looked[1]), " and", " on", last_piece()]]
    )

    async def talk(state: MessagesState) -> Any:
        said = asyncio.ensure_future(model.ainvoke(state["messages"]))
        await spoken.wait()
        for number, event in enumerate(looked):
            await look(number)
            event.set()
        return {"messages": [await said]}

    return one_node(talk)


@scenario("human: hi", "ai: kept")
def subgraph_that_drops_what_it_streamed() -> Any:
    async def waste(state: MessagesState) -> Any:
        await ScriptedModel(script=[["lost", " words"]]).ainvoke("go")
        return {}

    return chain(("sub", chain(waste, _speaker("keep", "ke", "pt"))))


@scenario("human: hi", "ai: ", "tool: inside", "ai: so it is")
def private_subgraph_in_a_tool() -> Any:
    inner = _sub_of_another_schema()

    @tool
    async def research(question: str) -> str:
        """Looks into it."""
        found = await inner.ainvoke({"question": question, "messages": []})
        return str(found["messages"][-1].content)

    model = ScriptedModel(
        script=[
            [call_piece(0, '{"question": "what?"}', name="research", id="call-1"), last_piece()],
            ["so", " it is", last_piece()],
        ]
    )
    return create_agent(model, [research])


# 16: content of providers


def _anthropic(block: dict[str, Any], **fields: Any) -> AIMessageChunk:
    return AIMessageChunk(content=[block], **fields)


@scenario("human: hi", "ai: It is 3", "tool: 3", "ai: done")
def anthropic_like_blocks() -> Any:
    call = {"name": None, "id": None, "index": 2, "type": "tool_call_chunk"}
    model = ScriptedModel(
        script=[
            [
                AIMessageChunk(content="", id="msg_1", usage_metadata=USAGE),
                _anthropic({"type": "thinking", "thinking": "Let me", "index": 0}),
                _anthropic({"type": "thinking", "thinking": " think", "index": 0}),
                _anthropic({"type": "thinking", "signature": "c2ln", "index": 0}),
                _anthropic({"type": "text", "text": "It is", "index": 1}),
                _anthropic({"type": "text", "text": " 3", "index": 1}),
                _anthropic(
                    {"type": "tool_use", "id": "call-1", "name": "add", "input": {}, "index": 2},
                    tool_call_chunks=[{**call, "name": "add", "id": "call-1", "args": ""}],
                ),
                _anthropic(
                    {"type": "input_json_delta", "partial_json": '{"a": 1', "index": 2},
                    tool_call_chunks=[{**call, "args": '{"a": 1'}],
                ),
                _anthropic(
                    {"type": "input_json_delta", "partial_json": ', "b": 2}', "index": 2},
                    tool_call_chunks=[{**call, "args": ', "b": 2}'}],
                ),
                last_piece(usage_metadata=USAGE),
            ],
            ["done", last_piece()],
        ]
    )
    return create_agent(model, [add])


@scenario("human: hi", "ai: answer")
def openai_like_reasoning() -> Any:
    def summary(text: str) -> AIMessageChunk:
        block = {
            "type": "reasoning",
            "summary": [{"index": 0, "type": "summary_text", "text": text}],
            "index": 0,
        }
        return AIMessageChunk(content=[block])

    return talking(
        [
            AIMessageChunk(content=[], id="resp_1"),
            summary("why"),
            summary(" not"),
            AIMessageChunk(content=[{"type": "text", "text": "ans", "index": 1}]),
            AIMessageChunk(content=[{"type": "text", "text": "wer", "index": 1}]),
            AIMessageChunk(content=[{"type": "text", "text": "", "annotations": [], "index": 1}]),
            last_piece(usage_metadata=USAGE, response_metadata={"model_name": "m"}),
        ]
    )


@scenario("human: hi", "ai: answer")
def deepseek_like_reasoning() -> Any:
    def thought(text: str) -> AIMessageChunk:
        return AIMessageChunk(content="", additional_kwargs={"reasoning_content": text})

    return talking([thought("hm"), thought(", well"), "ans", "wer", last_piece(usage_metadata=USAGE)])


@scenario("human: hi", "ai: text and blocks")
def text_then_blocks() -> Any:
    return talking(
        ["text", " and", AIMessageChunk(content=[{"type": "text", "text": " blocks"}]), last_piece()]
    )


@scenario("human: hi", "ai: héllo 😀😀 wörld")
def text_beyond_ascii() -> Any:
    return talking(["héllo", " 😀", "😀 w", "örld", last_piece()])


# beside the conversation


@scenario("human: hi", "ai: inside")
def custom_data() -> Any:
    inner_model = ScriptedModel(script=[["in", "side"]])

    async def below(state: MessagesState) -> Any:
        get_stream_writer()({"from": "below"})
        return {"messages": [await inner_model.ainvoke("go")]}

    sub = chain(below)

    async def above(state: MessagesState) -> Any:
        write = get_stream_writer()
        write("a text")
        write({"n": 1})
        write(float("nan"))
        return {}

    return chain(above, ("sub", sub))


@scenario(input="question")
def graph_without_messages() -> Any:
    class State(TypedDict):
        question: str
        answer: str

    model = ScriptedModel(script=[["forty", "-two"]])

    async def answer(state: State) -> Any:
        return {"answer": (await model.ainvoke(state["question"])).content}

    return one_node(answer, State)


@scenario(input="chat")
def messages_under_another_key() -> Any:
    class State(TypedDict):
        chat: Annotated[list[AnyMessage], add_messages]

    model = ScriptedModel(script=[["hel", "lo"]])

    async def answer(state: State) -> Any:
        return {"chat": [await model.ainvoke(state["chat"])]}

    return one_node(answer, State)


@scenario("human: hi", "ai: hello")
def messages_in_other_channels_too() -> Any:
    class State(MessagesState):
        aside: list[BaseMessage]
        secret: dict[str, Any]

    model = ScriptedModel(script=[["hel", "lo"]])

    async def answer(state: State) -> Any:
        said = await model.ainvoke(state["messages"])
        return {"messages": [said], "aside": [SystemMessage("aside", id="s1"), said], "secret": {"m": said}}

    return one_node(answer, State)


def _add_all(messages: list[Any], writes: Sequence[Any]) -> list[Any]:
    for write in writes:
        messages = add_messages(messages, write)  # type: ignore[assignment]
    return messages


class DeltaState(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(_add_all)]


@scenario("human: hi", "ai: hello", "ai: bye")
def delta_channel() -> Any:
    return chain(_speaker("one", "hel", "lo"), _speaker("two", "by", "e"), schema=DeltaState)


@scenario(input=None)
def functional_entrypoint() -> Any:
    model = ScriptedModel(script=[["a po", "em"]])

    @task
    async def write(topic: str) -> str:
        return str((await model.ainvoke(topic)).content)

    @entrypoint()
    async def poet(topic: Any) -> dict[str, Any]:
        return {"topic": str(topic), "poem": await write(str(topic))}

    return poet


@scenario(input="text")
def messages_channel_of_another_kind() -> Any:
    class State(TypedDict):
        text: str
        messages: str

    model = ScriptedModel(script=[["not", " a list"]])

    async def answer(state: State) -> Any:
        return {"messages": (await model.ainvoke(state["text"])).content}

    async def more(state: State) -> Any:
        return {"messages": state["messages"] + str((await model.ainvoke("more")).content)}

    return chain(answer, more, schema=State)


@scenario(input="text")
def raw_values_among_messages() -> Any:
    class State(TypedDict):
        text: str
        messages: Annotated[list[Any], operator.add]

    model = ScriptedModel(script=[["hel", "lo"]])

    async def raw(state: State) -> Any:
        return {"messages": [{"role": "user", "content": "x", "id": ["odd"]}, ("user", "y"), "z", None]}

    async def answer(state: State) -> Any:
        return {"messages": [await model.ainvoke("go")]}

    async def raw_again(state: State) -> Any:
        return {"messages": [{"id": "only a dict"}]}

    return chain(raw, answer, raw_again, ("answer_again", answer), schema=State)


@scenario("human: hi", "ai: round", "ai: round", "ai: round")
def subgraph_called_in_a_loop() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("sub", chain(_speaker("speak", "ro", "und")))
    builder.add_edge(START, "sub")
    builder.add_conditional_edges(
        "sub", lambda state: "sub" if len(state["messages"]) % 4 else END, ["sub", END]
    )
    return builder.compile()


@scenario()
def entrypoint_with_odd_keys() -> Any:
    @entrypoint()
    async def odd(text: Any) -> dict[Any, Any]:
        return {2: "a", None: "b", True: "c", "__proto__": "d", "é": {"constructor": 1}, 1.5: [text]}

    return odd


@scenario("human: hi", "ai: one")
def node_that_writes_nothing() -> Any:
    async def nothing(state: MessagesState) -> None:
        return None

    return chain(_speaker("one", "on", "e"), nothing)


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(block if isinstance(block, str) else block.get("text", "") for block in content)


def says(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Messages as `type: text`."""
    return [f"{message['type']}: {text_of(message)}" for message in messages]


def trimming(keep: int) -> Any:
    """Says something and keeps the last messages only."""
    model = ScriptedModel(script=[["short", " memory"]])

    async def trim(state: MessagesState) -> Any:
        old = state["messages"][:-keep]
        return {"messages": [RemoveMessage(id=str(message.id)) for message in old]}

    async def talk(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke("go")]}

    return chain(trim, talk)


def history(length: int) -> list[AnyMessage]:
    """A conversation of so many messages."""
    return [
        (HumanMessage, AIMessage)[place % 2](f"message {place}", id=f"old-{place}") for place in range(length)
    ]
