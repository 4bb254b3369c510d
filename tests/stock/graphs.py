"""The graphs that the stock clients talk to: the demo assistant, and two that use what comes along.

`assistant` is the demo; `slow` is the same, with time to stop it or to look away. `page` is a model that
has the tools of the page, and the page's system prompt. `context` tells as JSON what came along with the
message; `wait for PATH` does so once there is a file, `ask` once there is an answer.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from threadwire_agents.demos.assistant import assistant as demo
from threadwire_agents.demos.local_model import LocalModel

SENT = ("system", "tools", "config", "callSettings", "model")

assistant = demo(LocalModel(pace_s=0.005))
slow = demo(LocalModel(pace_s=0.05))


async def talk(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    sent = config["configurable"]
    tools: dict[str, Any] = sent.get("tools") or {}
    model = LocalModel(pace_s=0.005).bind_tools(
        [
            {"name": name, "description": tool.get("description", ""), "parameters": tool["parameters"]}
            for name, tool in tools.items()
        ]
    )
    system = [SystemMessage(sent["system"])] if sent.get("system") else []
    return {"messages": [await model.ainvoke([*system, *state["messages"]])]}


async def tell(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    text = str(state["messages"][-1].content)
    if text.startswith("wait for "):
        while not Path(text.removeprefix("wait for ")).exists():
            await asyncio.sleep(0.02)
    if text == "ask":
        interrupt("May I?")
    sent = {name: config["configurable"][name] for name in SENT if name in config["configurable"]}
    return {"messages": [AIMessage(json.dumps(sent, sort_keys=True))]}


def one_node(node: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile()


page = one_node(talk)
context = one_node(tell)
