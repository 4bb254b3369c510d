"""A graph's stream as edits: after each event one has the graph's state, or is ahead by streamed text."""

# PROTOCOL §15.2
# PROTOCOL §15.3
from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.support.graphs import ScriptedModel, call_piece, last_piece
from tests.support.replay import Client, Replay, WatchedConverter
from tests.support.scenarios import SCENARIOS, history, one_node, says, talking, text_of, trimming
from threadwire.core.codec import encode_log
from threadwire.core.document import Document
from threadwire.core.operations import AppendText, Delete, Json, Operation, Set
from threadwire_agents.langgraph.converter import MODES, Converter
from threadwire_agents.langgraph.messages import MessageList
from threadwire_agents.langgraph.serialise import message_to_json

pytestmark = pytest.mark.anyio


class Counting(TypedDict):
    count: int


class Holder:
    def __init__(self, document: Document) -> None:
        self.document = document


def replay(graph: Any, **options: Any) -> Replay:
    return Replay(graph.copy(update={"checkpointer": InMemorySaver()}), **options)


def replay_of(name: str) -> Replay:
    scenario = SCENARIOS[name]
    return replay(scenario.build(), input=scenario.input, edits=scenario.edits)


def sets(operations: Sequence[Operation]) -> list[tuple[Any, ...]]:
    return [operation.path for operation in operations if isinstance(operation, Set)]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_client_has_what_the_graph_has_and_texts_only_grow(name: str) -> None:
    played = replay_of(name)
    state = await played.run()
    if SCENARIOS[name].says:
        assert says(state["messages"]) == SCENARIOS[name].says


@pytest.mark.parametrize("name", SCENARIOS)
async def test_when_the_stream_is_over_nothing_is_left_to_tell(name: str) -> None:
    played = replay_of(name)
    await played.run()
    silent = name == "output_of_the_last_node_not_returned"  # its superstep tells no values
    assert bool(played.late) == silent


# tokens


async def test_each_piece_of_text_is_one_append() -> None:
    played = replay(talking(["one", " two", " three", last_piece()]))
    await played.run()
    first, *more, last = played.of("messages")
    assert [operation.path for operation in first] == [("messages", 1)]
    assert more == [
        [AppendText(("messages", 1, "content"), " two")],
        [AppendText(("messages", 1, "content"), " three")],
    ]
    assert last == []


async def test_each_piece_of_arguments_is_one_append_to_its_own_call() -> None:
    played = replay_of("parallel_tool_arguments")
    state = await played.run()
    appends = [
        each for operations in played.of("messages") for each in operations if type(each) is AppendText
    ]
    assert appends[:4] == [
        AppendText(("messages", 1, "tool_calls", 0, "partial_json"), '{"a": 1'),
        AppendText(("messages", 1, "tool_calls", 1, "partial_json"), '{"a": 10'),
        AppendText(("messages", 1, "tool_calls", 0, "partial_json"), ', "b": 2}'),
        AppendText(("messages", 1, "tool_calls", 1, "partial_json"), ', "b": 20}'),
    ]
    assert [call["args"] for call in state["messages"][1]["tool_calls"]] == [
        {"a": 1, "b": 2},
        {"a": 10, "b": 20},
    ]


async def test_the_text_of_arguments_stays_when_the_message_is_final() -> None:
    played = replay_of("react_turn")
    await played.run()
    (call,) = played.client.state["messages"][1]["tool_calls"]
    assert call["partial_json"] == '{"a": 1, "b":2}'
    assert call["args"] == {"a": 1, "b": 2}


async def test_calls_of_one_index_are_told_apart_by_their_ids() -> None:
    played = replay(
        talking(
            [
                call_piece(0, '{"a": 1}', name="add", id="call-1"),
                call_piece(0, '{"a": 2}', name="add", id="call-2"),
                last_piece(),
            ]
        )
    )
    await played.run()
    shown = played.client.state["messages"][1]["tool_calls"]
    assert [(call["id"], call["partial_json"]) for call in shown] == [
        ("call-1", '{"a": 1}'),
        ("call-2", '{"a": 2}'),
    ]


async def test_whole_calls_without_an_index_stand_side_by_side() -> None:
    def whole(id: str) -> AIMessageChunk:
        call: Any = {"name": "add", "args": "{}", "id": id, "index": None, "type": "tool_call_chunk"}
        return AIMessageChunk(content="", tool_call_chunks=[call])

    played = replay(talking([whole("call-1"), whole("call-2"), last_piece()]))
    await played.run()
    assert [call["id"] for call in played.client.state["messages"][1]["tool_calls"]] == ["call-1", "call-2"]


async def test_the_first_id_of_a_provider_stays() -> None:
    chunks = [
        AIMessageChunk(content=text, id=id) for text, id in [("b", "resp_1"), ("c", None), ("d", "resp_2")]
    ]
    played = replay(talking(["a", *chunks, last_piece()]))
    state = await played.run()
    assert state["messages"][1]["id"] == "resp_1"
    renamed = [path for operations in played.of("messages") for path in sets(operations) if path[-1] == "id"]
    assert renamed == [("messages", 1, "id")]


async def test_an_id_that_langchain_made_does_not_take_the_place_of_another() -> None:
    played = replay(talking(["a", AIMessageChunk(content="b", id="lc_other"), last_piece()]))
    state = await played.run()
    assert state["messages"][1]["id"].startswith("lc_run-")
    assert not [path for operations in played.of("messages") for path in sets(operations) if path[-1] == "id"]


async def test_all_chunks_of_a_call_of_a_model_come_with_the_same_metadata_object() -> None:
    """What tells the messages apart that stream at once, and LangGraph doesn't promise."""
    played = replay_of("two_calls_in_one_node")
    await played.run()
    metas: dict[str, set[int]] = {}
    for _, mode, payload, _ in played.sent:
        if mode == "messages" and payload[0].content:
            metas.setdefault(payload[0].content, set()).add(id(payload[1]))
    assert {letter: len(found) for letter, found in metas.items() if letter in "ab"} == {"a": 1, "b": 1}
    assert metas["a"] != metas["b"]


async def test_messages_that_stream_at_once_grow_side_by_side() -> None:
    played = replay_of("two_calls_in_one_node")
    await played.run()
    assert played.appended() == "abab"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("subgraph_sharing_messages", "from below"), ("subgraph_two_deep", "deep down")],
)
async def test_tokens_of_a_subgraph_that_shares_messages_appear_at_the_root(name: str, tokens: str) -> None:
    played = replay_of(name)
    await played.run()
    first = next(
        operations for namespace, mode, _, operations in played.sent if namespace and mode == "messages"
    )
    assert first[0].path == ("messages", 1)
    assert says(played.client.state["messages"])[1] == f"ai: {tokens}"
    subgraphs = played.client.state["threadwire"]["subgraphs"]
    assert not any("messages" in entry.get("values", {}) for entry in subgraphs.values())


def test_lone_surrogates_become_question_marks() -> None:
    document, lists = list_of([])
    for text in ("a", "\ud83d", "b"):
        lists.chunk(AIMessageChunk(content=text, id="m"), META)
    assert document.root == {"messages": [{"type": "ai", "id": "m", "content": "a?b"}]}


def test_text_that_becomes_blocks_is_the_first_of_them() -> None:
    document, lists = list_of([])
    lists.chunk(AIMessageChunk(content="a", id="m"), META)
    lists.chunk(AIMessageChunk(content=[{"type": "text", "text": "b"}], id="m"), META)
    lists.chunk(AIMessageChunk(content="c", id="m"), META)
    lists.chunk(AIMessageChunk(content="d", id="m"), META)
    (message,) = document.root["messages"]
    assert message["content"] == ["a", {"type": "text", "text": "b"}, "cd"]


# blocks


async def test_blocks_of_an_index_grow_and_the_final_message_changes_no_text() -> None:
    played = replay_of("anthropic_like_blocks")
    await played.run()
    appends = [
        (each.path, each.value)
        for operations in played.of("messages")
        for each in operations
        if type(each) is AppendText and each.path[:3] == ("messages", 1, "content")
    ]
    # LangChain puts the empty text of the first chunk before the blocks.
    assert appends == [
        (("messages", 1, "content", 1, "thinking"), " think"),
        (("messages", 1, "content", 2, "text"), " 3"),
        (("messages", 1, "content", 3, "partial_json"), ', "b": 2}'),
    ]
    assert played.client.state["messages"][1]["usage_metadata"]["output_tokens"] == 10


async def test_reasoning_grows_in_nested_lists() -> None:
    played = replay_of("openai_like_reasoning")
    await played.run()
    appends = [
        each.path for operations in played.of("messages") for each in operations if type(each) is AppendText
    ]
    assert appends == [
        ("messages", 1, "content", 0, "summary", 0, "text"),
        ("messages", 1, "content", 1, "text"),
    ]


async def test_reasoning_beside_the_content_grows() -> None:
    played = replay_of("deepseek_like_reasoning")
    state = await played.run()
    assert state["messages"][1]["additional_kwargs"] == {"reasoning_content": "hm, well"}
    assert AppendText(("messages", 1, "additional_kwargs", "reasoning_content"), ", well") in (
        played.client.operations
    )


def test_raw_tool_calls_of_a_provider_are_not_shown_twice_while_they_stream() -> None:
    def chunk(name: str | None, arguments: str) -> AIMessageChunk:
        raw = {"index": 0, "function": {"arguments": arguments, "name": name}, "id": name and "c"}
        piece = call_piece(0, arguments, name=name, id=name and "c")
        return piece.model_copy(
            update={"id": "m", "additional_kwargs": {"tool_calls": [raw], "refusal": None}}
        )

    document, lists = list_of([])
    for name, arguments in (("add", ""), (None, "{"), (None, "}")):
        lists.chunk(chunk(name, arguments), META)
    (message,) = document.root["messages"]
    assert message.get("additional_kwargs") in (None, {"refusal": None})
    assert [call["partial_json"] for call in message["tool_calls"]] == ["{}"]


# what becomes of what was streamed


async def test_what_a_retry_leaves_behind_goes_with_the_superstep() -> None:
    played = replay_of("retry_after_partial")
    state = await played.run()
    assert says(state["messages"]) == ["human: hi", "ai: second try"]
    assert played.appended() == " half try"


async def test_a_message_that_nobody_returned_goes_when_its_superstep_has_ended() -> None:
    played = replay_of("output_not_returned")
    await played.run()
    seen = [path for operations in played.of("messages") for path in sets(operations)]
    assert ("messages", 1) in seen
    assert says(played.client.state["messages"]) == ["human: hi", "ai: fixed"]


@pytest.mark.parametrize(
    "name", ["subgraph_that_drops_what_it_streamed", "output_not_returned_by_a_node_that_writes_nothing"]
)
async def test_what_was_dropped_is_gone_before_the_next_superstep_streams(name: str) -> None:
    played = replay_of(name)
    seen: list[list[str]] = []
    take = played.client.take

    def look(operations: Sequence[Operation]) -> None:
        take(operations)
        conversation = says(played.client.state.get("messages", []))
        if not seen or seen[-1] != conversation:
            seen.append(conversation)

    played.client.take = look  # type: ignore[method-assign]
    await played.run()
    assert seen[1:] == [
        ["human: hi"],
        ["human: hi", "ai: lost"],
        ["human: hi", "ai: lost words"],
        ["human: hi"],
        ["human: hi", "ai: ke"],
        ["human: hi", "ai: kept"],
    ]


async def test_messages_under_another_key_pass_through_the_conversation_only_until_the_superstep_ends() -> (
    None
):
    played = replay_of("messages_in_other_channels_too")
    state = await played.run()
    assert [message["id"] for message in state["aside"]] == ["s1", state["messages"][1]["id"]]
    assert len(state["messages"]) == 2


async def test_a_message_that_streams_under_the_id_of_one_the_graph_has_is_told_by_the_graph() -> None:
    async def again(state: MessagesState) -> Any:
        model = ScriptedModel(script=[[AIMessageChunk(content=word, id="h1") for word in ("new", " text")]])
        return {"messages": [await model.ainvoke("go")]}

    played = replay(one_node(again), edits=True)
    state = await played.run()
    assert says(state["messages"]) == ["ai: new text"]
    assert [operations for operations in played.of("messages") if operations] == []


@pytest.mark.parametrize("name", ["subgraph_that_drops_what_it_streamed", "two_subgraphs_at_once"])
async def test_what_subgraphs_drop_goes_and_what_they_keep_stays(name: str) -> None:
    played = replay_of(name)
    state = await played.run()
    assert says(state["messages"]) == SCENARIOS[name].says


# histories


async def turn_after(length: int) -> Replay:
    """A turn after so many messages."""
    played = replay(talking(["one", " two", " three", last_piece()]), edits=True)
    await played.begin_with(history(length), node="talk")
    await played.run()
    return played


async def test_what_a_token_sends_does_not_depend_on_the_history() -> None:
    few, many = await turn_after(10), await turn_after(2000)
    for mode in MODES:
        assert [len(each) for each in few.of(mode)] == [len(each) for each in many.of(mode)]
        for operations, others in zip(few.of(mode), many.of(mode), strict=True):
            digits = 4 * len(operations)
            assert abs(len(encode_log(others)) - len(encode_log(operations))) <= digits, "those of indexes"


async def test_trimming_two_thousand_messages_is_a_few_operations() -> None:
    played = replay(trimming(5), edits=True)
    await played.begin_with(history(2000), node="talk")
    state = await played.run()
    assert says(state["messages"])[-2:] == ["human: hi", "ai: short memory"]
    assert len(state["messages"]) == 6
    sent = [each for each in played.client.operations if each.path[:1] in ((), ("messages",))]
    assert len(sent) < 10
    assert len(encode_log(sent)) < 2000


# beside the conversation


async def test_a_private_subgraph_stands_under_its_namespace_with_the_call_that_made_it() -> None:
    played = replay_of("private_subgraph_in_a_tool")
    await played.run()
    ((key, entry),) = played.client.state["threadwire"]["subgraphs"].items()
    assert key.startswith("tools:")
    assert entry["name"] == "tools"
    assert entry["tool_call_id"] == "call-1"
    assert entry["values"]["question"] == "what?"
    assert entry["values"]["notes"] == ["thought"]
    assert says(entry["values"]["messages"]) == ["ai: inside"]


async def test_tokens_of_a_private_subgraph_stream_where_its_values_stand() -> None:
    played = replay_of("private_subgraph_in_a_tool")
    await played.run()
    (grown,) = [
        operation
        for namespace, mode, _, operations in played.sent
        if namespace and mode == "messages"
        for operation in operations
        if type(operation) is AppendText
    ]
    assert grown.path[:2] == ("threadwire", "subgraphs")
    assert grown.path[3:5] == ("values", "messages")
    assert grown.value == "side"


async def test_custom_data_stands_with_the_graph_that_wrote_it() -> None:
    played = replay_of("custom_data")
    await played.run()
    own = played.client.state["threadwire"]
    assert own["custom"] == ["a text", {"n": 1}, None]
    ((_, entry),) = own["subgraphs"].items()
    assert entry["custom"] == [{"from": "below"}]


async def test_only_the_last_custom_data_is_kept() -> None:
    async def chatter(state: MessagesState) -> Any:
        write = get_stream_writer()
        for number in range(1500):
            write(number)
        return {}

    played = replay(one_node(chatter))
    await played.run()
    kept = played.client.state["threadwire"]["custom"]
    assert 1000 <= len(kept) <= 1250
    assert kept == list(range(1500 - len(kept), 1500))


async def test_of_the_subgraphs_that_have_ended_only_the_last_are_kept() -> None:
    async def inside(state: Counting) -> Any:
        return {"count": state["count"] + 1}

    builder = StateGraph(Counting)
    builder.add_node("sub", one_node(inside, Counting))
    builder.add_edge(START, "sub")
    builder.add_conditional_edges("sub", lambda state: "sub" if state["count"] < 250 else END, ["sub", END])
    document = Document({})
    converter = Converter(Holder(document), messages=None)
    events = builder.compile().astream({"count": 0}, stream_mode=MODES, subgraphs=True, version="v1")  # type: ignore[arg-type]
    async for namespace, mode, payload in events:
        converter.feed(namespace, mode, payload)
    kept: dict[str, Any] = document.root["threadwire"]["subgraphs"]
    assert [call["values"]["count"] for call in kept.values()] == list(range(50, 251))


async def test_a_tool_shows_that_it_runs_and_that_it_is_done() -> None:
    played = replay_of("react_turn")
    seen: list[Json] = []
    feed = played.client.take

    def take(operations: Sequence[Operation]) -> None:
        feed(operations)
        tools = played.client.state.get("threadwire", {}).get("tools", {})
        if tools and (not seen or seen[-1] != tools["call-1"]):
            seen.append(dict(tools["call-1"]))

    played.client.take = take  # type: ignore[method-assign]
    await played.run()
    assert [tool["status"] for tool in seen] == ["running", "done"]


async def test_the_tasks_of_a_superstep_show_while_it_runs() -> None:
    played = replay_of("send_fan_out")
    await played.run()
    running = [
        operation.value["name"]
        for operations in played.of("tasks")
        for operation in operations
        if isinstance(operation, Set)
        and isinstance(operation.value, dict)
        and operation.path[-2:-1] == ("tasks",)
    ]
    assert running.count("talk") >= 2
    assert "tasks" not in played.client.state["threadwire"]


async def test_a_graph_without_messages_streams_beside_its_channels() -> None:
    played = replay_of("graph_without_messages")
    state = await played.run()
    assert state == {"question": "hi", "answer": "forty-two"}
    first, second = [operations for operations in played.of("messages") if operations]
    assert first[-1].path[:2] == ("threadwire", "streaming")
    assert second == [AppendText(("threadwire", "streaming", 0, "content"), "-two")]
    assert "streaming" not in played.client.state["threadwire"]


async def test_an_entrypoint_that_returns_one_value_shows_it_as_output() -> None:
    from langgraph.func import entrypoint

    @entrypoint()
    async def twice(text: Any) -> str:
        return f"{text}{text}"

    played = replay(twice)
    assert await played.run() == {"output": "hihi"}


async def test_a_channel_of_the_servers_name_in_a_subgraph_is_its_own() -> None:
    class Inner(TypedDict):
        threadwire: str

    async def inside(state: Inner) -> Any:
        return {"threadwire": "mine"}

    inner = one_node(inside, Inner)

    async def talk(state: MessagesState) -> Any:
        found = await inner.ainvoke({"threadwire": "x"})
        return {"messages": [AIMessage(found["threadwire"])]}

    played = replay(one_node(talk))
    state = await played.run()
    assert says(state["messages"]) == ["human: hi", "ai: mine"]


async def test_a_new_run_begins_without_what_the_last_one_showed() -> None:
    played = replay_of("custom_data")
    await played.run()
    await played.run(HumanMessage("again", id="h2"))
    assert played.client.state["threadwire"]["custom"] == ["a text", {"n": 1}, None]


async def test_a_node_that_fails_leaves_what_it_streamed_for_the_run_to_keep() -> None:
    played = replay(talking(["half", " a", ValueError("broken")]))
    with pytest.raises(ValueError, match="broken"):
        await played.run()
    (task,) = played.client.state["threadwire"]["tasks"].values()
    assert task["name"] == "talk"
    (left,) = played.converter.root.end_streams()
    assert text_of(left) == "half a"


async def test_two_models_in_parallel_nodes_and_a_cancelled_sibling() -> None:
    never = asyncio.Event()

    async def talk(state: MessagesState) -> Any:
        slow = ScriptedModel(script=[["slow", never.wait]])
        fast = ScriptedModel(script=[["fa", "st", last_piece()]])
        waiting = asyncio.ensure_future(slow.ainvoke("go"))
        said = await fast.ainvoke("go")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return {"messages": [said]}

    played = replay(one_node(talk))
    state = await played.run()
    assert says(state["messages"]) == ["human: hi", "ai: fast"]


# channels


class Watched:
    """A value that notices when it is looked at."""

    looks = 0

    def __repr__(self) -> str:
        self.looks += 1
        return "watched"


def told(converter: Converter, updates: dict[str, Any], **values: Any) -> None:
    """A superstep: what its nodes have written, and what the channels hold then."""
    for node, written in updates.items():
        converter.feed((), "updates", {node: written})
    converter.feed((), "values", values)


def test_a_channel_that_no_node_has_written_is_not_looked_at_again() -> None:
    document = Document({})
    converter = Converter(Holder(document), messages=None)
    value = Watched()
    told(converter, {}, value=value, count=0)
    looks = value.looks
    told(converter, {"node": {"count": 1}, "other": None}, value=value, count=1)
    assert document.root == {"value": "watched", "count": 1}
    assert value.looks == looks
    told(converter, {"node": {"value": value}}, value=value, count=1)
    assert value.looks > looks


def test_a_channel_changed_in_place_is_told_where_a_node_has_written_it() -> None:
    document = Document({})
    converter = Converter(Holder(document), messages=None)
    box: dict[str, Any] = {"a": 1}
    told(converter, {}, box=box)
    box["b"] = 2
    told(converter, {"node": [{"count": 1}, {"box": box}]}, box=box, count=1)
    assert document.root["box"] == {"a": 1, "b": 2}
    told(converter, {}, count=1)
    told(converter, {}, box=box, count=1)
    assert document.root["box"] == {"a": 1, "b": 2}


def test_a_value_of_the_whole_graph_changed_in_place_is_told() -> None:
    document = Document({})
    converter = Converter(Holder(document), messages=None)
    output = [1]
    converter.feed((), "values", output)
    output.append(2)
    converter.feed((), "updates", {"node": output})
    converter.feed((), "values", output)
    assert document.root["output"] == [1, 2]


def test_the_state_as_it_is_kept_is_told_whole() -> None:
    document = Document({})
    converter = Converter(Holder(document), messages=None)
    box = {"a": 1}
    told(converter, {}, box=box)
    box["b"] = 2
    converter.settle({"box": box})
    assert document.root["box"] == {"a": 1, "b": 2}


# the list of messages by itself

META = {"langgraph_node": "talk"}


def list_of(messages: Sequence[Any], *previews: AIMessageChunk) -> tuple[Document, MessageList]:
    """A list that the graph has told, and messages that stream after it."""
    document = Document({})
    lists = MessageList(Holder(document), ("messages",))
    if messages:
        lists.tell(messages, final=True)
    for preview in previews:
        lists.chunk(preview, {"of": preview.id})
    document.cut()
    return document, lists


def test_the_same_objects_are_not_looked_at_again() -> None:
    messages = history(5)
    document, lists = list_of(messages)
    lists.tell([*messages], final=True)
    assert document.cut() == []


def test_a_message_changed_in_place_is_told_where_a_node_returned_it() -> None:
    messages = history(5)
    document, lists = list_of(messages)
    messages[2].content = "message 2 and more"
    lists.tell(messages, changed={"old-2"}, final=True)
    assert document.cut() == [AppendText(("messages", 2, "content"), " and more")]


def test_a_shorter_list_takes_out_what_is_gone() -> None:
    messages = history(5)
    document, lists = list_of(messages)
    lists.tell([messages[0], *messages[2:]], final=True)
    (operation,) = document.cut()
    assert operation == Delete(("messages", 1)) or operation.path == ("messages",)
    assert [message["id"] for message in document.root["messages"]] == ["old-0", "old-2", "old-3", "old-4"]


def test_an_empty_list_takes_out_everything() -> None:
    document, lists = list_of(history(5), AIMessageChunk(content="x", id="p"))
    lists.tell([], final=True)
    assert document.root == {"messages": []}
    lists.tell(history(1), final=True)
    assert [message["id"] for message in document.root["messages"]] == ["old-0"]


def test_messages_in_another_order_are_told_in_that_order() -> None:
    messages = history(6)
    document, lists = list_of(messages)
    lists.tell(messages[::-1], final=True)
    assert [message["id"] for message in document.root["messages"]] == [f"old-{n}" for n in range(5, -1, -1)]
    assert lists.known == messages[::-1]


def test_messages_without_ids_are_told_by_their_places() -> None:
    document, lists = list_of([HumanMessage("a"), HumanMessage("a")])
    lists.tell([HumanMessage("a"), HumanMessage("b"), HumanMessage("a")], final=True)
    assert says(document.root["messages"]) == ["human: a", "human: b", "human: a"]


def test_a_list_that_is_not_final_keeps_what_streams_and_lets_it_go_on() -> None:
    messages = history(2)
    document, lists = list_of(messages, AIMessageChunk(content="one", id="p"))
    meta = lists._streams and next(iter(lists._streams.values())).meta
    more = [*messages, AIMessage("new", id="n")]
    lists.tell(more, final=False)
    lists.chunk(AIMessageChunk(content=" two", id="p"), meta)
    assert says(document.root["messages"])[2:] == ["ai: new", "ai: one two"]
    lists.tell(more, final=True)
    assert says(document.root["messages"])[2:] == ["ai: new"]


def test_what_is_no_message_in_the_list_is_shown_as_it_is() -> None:
    document, _ = list_of([HumanMessage("a", id="a"), {"role": "user", "content": "raw"}, "text"])
    shown = document.root["messages"]
    assert shown[1:] == [{"role": "user", "content": "raw"}, "text"]


def test_previews_of_a_cut_run_go_when_the_first_new_one_comes() -> None:
    document, lists = list_of(history(1), AIMessageChunk(content="old half", id="p"))
    lists.end_streams()
    lists.stale = lists.preview_ids()
    lists.chunk(AIMessageChunk(content="new", id="q"), META)
    assert [message["id"] for message in document.root["messages"]] == ["old-0", "q"]


def test_what_is_shown_before_the_graph_has_told_of_it_is_no_preview() -> None:
    document, _ = list_of(history(3))
    later = MessageList(Holder(document), ("messages",))
    later.purge(())
    assert later.end_streams() == []
    assert len(document.root["messages"]) == 3


def test_objects_are_adopted_where_the_list_shows_them_and_told_where_it_does_not() -> None:
    document, _ = list_of(history(3), AIMessageChunk(content="x", id="p"))
    later = MessageList(Holder(document), ("messages",))
    later.adopt(history(3))
    assert document.cut() == []
    assert [preview["id"] for preview in later.end_streams()] == ["p"]
    later.adopt([HumanMessage("other", id="other")])
    assert document.root["messages"][0]["id"] == "other"
    assert len(later.known) == 1


def test_watching_sees_a_document_that_is_behind() -> None:
    """The check that all the others rely on does fail."""
    WatchedConverter.watched = []
    document = Document({})
    converter = WatchedConverter(Holder(document), messages="messages")
    converter.feed((), "values", {"messages": history(1), "n": 1})
    document.set(("n",), 2)
    with pytest.raises(AssertionError):
        converter.feed((), "custom", "x")


# any chunks

texts = st.sampled_from(["", "a", " b", "é", "\n"])
indexes = st.integers(0, 2)


def reasoning(text: str, place: int) -> dict[str, Any]:
    summary = {"type": "summary_text", "text": text, "index": place}
    return {"type": "reasoning", "summary": [summary], "index": 3}


blocks = st.one_of(
    texts,
    st.builds(lambda text: {"type": "text", "text": text}, texts),
    st.builds(lambda text, index: {"type": "text", "text": text, "index": index}, texts, indexes),
    st.builds(reasoning, texts, indexes),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "index": 4}, texts),
    st.builds(lambda text: {"type": "thinking", "signature": text, "index": 4}, texts),
    st.builds(lambda id: {"type": "tool_use", "id": id, "index": 5}, st.sampled_from(["p", None])),
    st.builds(lambda text: {"type": "input_json_delta", "partial_json": text, "index": 5}, texts),
)


def index_of(piece: Any) -> object:
    """Pieces of one chunk are of different blocks or calls."""
    found = piece.get("index") if isinstance(piece, dict) else None
    return object() if found is None else found


call_chunks = st.builds(
    lambda index, name, id, args: {
        "index": index,
        "name": name,
        "id": id,
        "args": args,
        "type": "tool_call_chunk",
    },
    st.none() | indexes,
    st.none() | st.just("add"),
    st.none() | st.sampled_from(["c", "d"]),
    st.none() | st.sampled_from(["{", '"a": 1', "}"]),
)
chunks = st.builds(
    lambda content, calls, kwargs, id: AIMessageChunk(
        content=content, tool_call_chunks=calls, additional_kwargs=kwargs, id=id
    ),
    texts | st.lists(blocks, max_size=2, unique_by=index_of),
    st.lists(call_chunks, max_size=2, unique_by=index_of),
    st.fixed_dictionaries({}, optional={"reasoning_content": texts, "extra": st.builds(dict, a=texts)}),
    st.sampled_from(["lc_run-1", "lc_2", "resp_1", "resp_2"]),
)


@settings(deadline=None)
@given(st.lists(chunks, min_size=1, max_size=8))
def test_what_has_streamed_is_what_langchain_makes_of_the_chunks(pieces: list[AIMessageChunk]) -> None:
    whole = add_ai_message_chunks(pieces[0], *pieces[1:]) if len(pieces) > 1 else pieces[0]
    document, lists = list_of([])
    client = Client({})
    for piece in pieces:
        lists.chunk(piece, META)
        client.take(document.cut())
    (shown,) = client.state["messages"]
    final = message_to_json(whole)
    for member in ("type", "id", "content", "additional_kwargs"):
        assert shown.get(member) == final.get(member)
    calls = [(call["name"], call["id"], call["partial_json"]) for call in shown.get("tool_calls", [])]
    assert calls == [(call["name"] or "", call["id"], call["args"] or "") for call in whole.tool_call_chunks]
