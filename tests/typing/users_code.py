"""What users write, as strict type checkers see it. It is checked, and never run."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, assert_type

import threadwire
from threadwire.client import Connection, Position, RunInfo, Thread, connect

# commands


class SetTitle(threadwire.Command, tag="set-title"):
    title: str
    color: str = "red"


class Move(threadwire.Command, frozen=True, tag="move"):
    steps: list[int]


SetTitle(title="x").title = "y"
Move(steps=[1]).steps = [2]  # error: misc
SetTitle(titel="x")  # error: call-arg
Move(steps="1")  # error: arg-type


# agents


@threadwire.agent
async def echo(run: threadwire.Run) -> None:
    """Echoes."""
    assert_type(run.state, Any)
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        assert_type(command, threadwire.Command)
        match command:
            case threadwire.AddMessage(message=message):
                assert_type(message.text, str)
                for part in message.parts:
                    if isinstance(part, threadwire.ImagePart):
                        assert_type(part.image, str)
                messages.append({"role": message.role, "content": message.text})
            case threadwire.AddToolResult():
                run.state["result"] = command.result
            case _:
                raise threadwire.AgentError("what?", code="what")
    run.append_text(("messages", -1, "content"), "!")
    run.replace({"messages": []})
    run.state = {"messages": []}
    for steered in run.inbox.take():
        assert_type(steered, threadwire.Command)
    async for steered in run.inbox:
        assert_type(steered, threadwire.Command)
    assert_type(run.new_id(), str)
    assert_type(run.cancelled, bool)
    assert_type(await run.interrupt({"question": "sure?"}), Any)
    tool = await run.call_client_tool("where", {})
    assert_type(tool, threadwire.AddToolResult)
    await run.flush()
    run.appendtext("x")  # error: attr-defined


@threadwire.agent(name="wholes", seed=True)
async def yields(run: threadwire.Run) -> AsyncIterator[dict[str, int]]:
    yield {"n": 1}


@threadwire.agent
def blocks(run: threadwire.Run) -> None:
    run.state["done"] = True


@threadwire.agent  # error: arg-type
async def takes_nothing() -> None: ...


@echo.on(SetTitle)
async def set_title(run: threadwire.Run, command: SetTitle) -> None:
    if not command.title:
        raise threadwire.CommandError("no-title", "a title has letters", "command.title")
    run.state["title"] = command.title


@echo.on(Move, immediate=True)
def move(run: threadwire.Run, command: Move) -> None:
    run.start_agent()


@echo.on(SetTitle)  # error: arg-type
async def wrong(run: threadwire.Run, command: Move) -> None: ...


assert_type(echo, threadwire.FunctionAgent)

# the server

app: threadwire.Application = threadwire.create_app(
    agents={"echo": echo, "yields": yields, "blocks": blocks},
    store="memory:",
    limits=threadwire.Limits(max_depth=10),
    allow_origins=["https://example.com"],
)
print(threadwire.creat_app)  # error: attr-defined

# the client


async def use(thread: Thread) -> None:
    receipt = await thread.send(threadwire.AddMessage.text("hello"), strategy="enqueue")
    await thread.send({"type": "set-title", "title": "x"}, id="once")
    await thread.send(SetTitle(title="x"), strategy="someday")  # error: arg-type
    assert_type(await receipt.applied(), int)
    assert_type(await thread.idle(), RunInfo | None)
    assert_type(thread.position, Position)
    print(thread.state["messages"])
    async for state in thread.states(until_idle=True):
        print(state["messages"][-1]["content"])
    async for call in thread.tool_calls():
        await thread.send(threadwire.AddToolResult(tool_call_id=call.tool_call_id, result=[1, None]))
    await thread.cancel()


async def main() -> None:
    try:
        async with connect("ws://127.0.0.1:8000/ws", encoding="json", token="t") as connection:
            assert_type(connection, Connection)
            async with connection.open("t", agent="echo", tools=["where"], state={"a": [1.5]}) as thread:
                await use(thread)
    except threadwire.ConnectionClosed as closed:
        print(closed.code, closed.reason)


if __name__ == "__main__":
    asyncio.run(main())
