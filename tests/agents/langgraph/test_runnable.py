"""Runnables that are no graphs, as graphs of one node: their input, their output, their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from pydantic import BaseModel

from threadwire_agents.langgraph.runnable import NODE, graph_of_runnable

pytestmark = pytest.mark.anyio

TALK = [HumanMessage("first", id="1"), AIMessage("answer", id="2"), HumanMessage("second", id="3")]


def model(text: str = "hello big world") -> BaseChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(text)]))


async def run(
    runnable: Runnable[Any, Any], talk: Sequence[BaseMessage] = TALK
) -> tuple[list[Any], list[Any]]:
    """The chunks that were streamed, and the messages the runnable added."""
    chunks, values = [], []
    stream = graph_of_runnable(runnable).astream(
        {"messages": list(talk)}, stream_mode=["messages", "values"], version="v1"
    )
    async for mode, payload in stream:
        if mode == "messages":
            message, meta = payload
            assert meta["langgraph_node"] == NODE
            chunks.append(message)
        else:
            values.append(payload["messages"])
    assert values[0] == list(talk)
    return chunks, values[-1][len(talk) :]


PROMPT = ChatPromptTemplate([("system", "be kind"), MessagesPlaceholder("messages")])


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(),
        lambda: PROMPT | model(),
        lambda: PROMPT | model() | StrOutputParser(),
        lambda: RunnableLambda(lambda messages: messages) | model(),
        lambda: model().with_config(tags=["mine"]),
        lambda: model().with_retry(),
        lambda: PROMPT | model() | (lambda message: {"output": message.content}),
    ],
    ids=["model", "chain", "parser", "lambda", "binding", "retry", "dict"],
)
async def test_a_models_tokens_are_streamed_under_the_id_of_its_message(make: Any) -> None:
    chunks, (added,) = await run(make())
    assert [chunk.content for chunk in chunks] == ["hello", " ", "big", " ", "world"]
    assert {chunk.id for chunk in chunks} == {added.id}
    assert (added.type, added.content) == ("ai", "hello big world")


async def test_a_text_that_is_not_the_models_is_a_message_of_its_own() -> None:
    chunks, (added,) = await run(model() | StrOutputParser() | RunnableLambda(str.upper))
    assert added.content == "HELLO BIG WORLD"
    assert added.id not in {chunk.id for chunk in chunks[:-1]}


async def test_a_model_of_texts_answers() -> None:
    _, (added,) = await run(FakeListLLM(responses=["hello"]))
    assert (added.type, added.content) == ("ai", "hello")


async def test_two_runs_at_once_do_not_mix() -> None:
    graph = graph_of_runnable(PROMPT | RunnableLambda(lambda prompt: prompt.to_messages()[-1].content))
    talks = [{"messages": [HumanMessage(str(number))]} for number in range(20)]
    states = await graph.abatch(talks)
    assert [state["messages"][-1].content for state in states] == [str(number) for number in range(20)]


class Question(BaseModel):
    question: str


class History(BaseModel):
    chat_history: list[BaseMessage]
    question: str


def of_text(text: str) -> str:
    return repr(text)


def of_messages(messages: list[BaseMessage]) -> str:
    return repr([message.content for message in messages])


def of_message(message: BaseMessage) -> str:
    return repr(message.content)


def of_either(given: str | list[BaseMessage]) -> str:
    return repr(type(given).__name__)


def of_a_dict(given: dict[str, Any]) -> str:
    return repr({key: len(value) for key, value in given.items()})


def keyed(given):  # type: ignore[no-untyped-def]
    messages = given["messages"]
    return repr([message.content for message in messages])


async def of_text_later(text: str) -> str:
    return repr(text)


def of_a_config(text: str, config: RunnableConfig) -> str:
    return repr((text, config["metadata"]["langgraph_node"]))


def of_something(given: Any) -> str:
    return repr(type(given).__name__)


@pytest.mark.parametrize(
    ("runnable", "output"),
    [
        (RunnableLambda(of_text), "'second'"),
        (RunnableLambda(of_text_later), "'second'"),
        (RunnableLambda(of_a_config), "('second', 'runnable')"),
        (RunnableLambda(of_messages), "['first', 'answer', 'second']"),
        (RunnableLambda(of_message), "'second'"),
        (RunnableLambda(of_either), "'list'"),
        (RunnableLambda(of_a_dict), "{'messages': 3}"),
        (RunnableLambda(keyed), "['first', 'answer', 'second']"),
        (RunnableLambda(of_something), "'list'"),
        (RunnablePassthrough() | RunnableLambda(of_something), "'list'"),
        (PromptTemplate.from_template("<{question}>") | RunnableLambda(lambda p: p.text), "<second>"),
        (RunnableLambda(lambda q: q["question"]).with_types(input_type=Question), "second"),
        (
            RunnableLambda(lambda q: f"{len(q['chat_history'])} {q['question']}").with_types(
                input_type=History
            ),
            "2 second",
        ),
        (
            ChatPromptTemplate([MessagesPlaceholder("history"), ("human", "<{input}>")])
            | RunnableLambda(lambda p: "|".join(m.content for m in p.to_messages())),
            "first|answer|<second>",
        ),
    ],
)
async def test_the_input_is_what_the_schema_asks_for(runnable: Runnable[Any, Any], output: str) -> None:
    _, (added,) = await run(runnable)
    assert added.content == output


async def test_the_text_is_the_newest_of_a_user() -> None:
    _, (added,) = await run(RunnableLambda(of_text), [*TALK, AIMessage("unasked", id="4")])
    assert added.content == "'second'"
    _, (added,) = await run(RunnableLambda(of_text), [SystemMessage("only this", id="5")])
    assert added.content == "'only this'"


async def test_no_message_at_all_is_an_empty_text() -> None:
    _, (added,) = await run(RunnableLambda(of_text), [])
    assert added.content == "''"


async def test_blocks_are_read_as_text() -> None:
    _, (added,) = await run(
        RunnableLambda(of_text), [HumanMessage([{"type": "text", "text": "one"}, "two"], id="6")]
    )
    assert added.content == "'onetwo'"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (
            PromptTemplate.from_template("{a} {b}"),
            "its input is a dict of 'a', 'b'; put a function before it",
        ),
        (
            ChatPromptTemplate([MessagesPlaceholder("x"), MessagesPlaceholder("y")]),
            "its input is a dict of 'x', 'y'",
        ),
    ],
)
def test_an_input_that_is_not_in_messages_is_refused(prompt: Runnable[Any, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        graph_of_runnable(prompt)


@pytest.mark.parametrize(
    ("output", "added"),
    [
        ("text", [("ai", "text")]),
        ("", [("ai", "")]),
        (AIMessage("said"), [("ai", "said")]),
        (HumanMessage("asked"), [("human", "asked")]),
        ([AIMessage("a"), HumanMessage("b")], [("ai", "a"), ("human", "b")]),
        ([("ai", "a"), {"role": "user", "content": "b"}], [("ai", "a"), ("human", "b")]),
        ({"messages": [("ai", "a")], "other": 1}, [("ai", "a")]),
        ({"messages": AIMessage("a")}, [("ai", "a")]),
        ({"output": "a", "input": "b"}, [("ai", "a")]),
        ({"answer": AIMessage("a")}, [("ai", "a")]),
        (ChatPromptValue(messages=[HumanMessage("asked")]), [("human", "asked")]),
        (None, []),
        ([], []),
        (0, [("ai", "0")]),
        (False, [("ai", "false")]),
        ({"temperature": 3, "größe": [1]}, [("ai", '{"temperature": 3, "größe": [1]}')]),
        ([1, 2], [("ai", "[1, 2]")]),
        (Question(question="why"), [("ai", '{"question": "why"}')]),
        ({"when": b"x"}, [("ai", '{"when": "b\'x\'"}')]),
    ],
)
async def test_every_output_becomes_messages(output: object, added: list[tuple[str, str]]) -> None:
    _, messages = await run(RunnableLambda(lambda messages: output))
    assert [(message.type, message.content) for message in messages] == added
    assert all(message.id for message in messages)


async def test_a_whole_conversation_as_output_is_not_added_twice() -> None:
    _, messages = await run(RunnableLambda(lambda messages: [*messages, AIMessage("third", id="9")]))
    assert [message.id for message in messages] == ["9"]


async def test_what_a_runnable_raises_is_raised() -> None:
    def fail(messages: Any) -> None:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        await run(RunnableLambda(fail))
