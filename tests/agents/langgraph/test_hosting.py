"""Graphs on the command line: which targets are taken for graphs, and what is said where they are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Write, project_in
from threadwire.cli import main as cli
from threadwire.cli.errors import StartupError
from threadwire.cli.plugins import Project
from threadwire.cli.targets import load_agents
from threadwire.engine.agent import Agent
from threadwire_agents.langgraph import config_file

pytestmark = pytest.mark.anyio


class Hosted(Agent):
    """Stands for the agent of a graph: what matters here is what it was made of."""

    def __init__(self, target: object, *, name: str) -> None:
        super().__init__(name)
        self.target = target


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    with project_in(tmp_path, monkeypatch) as write:
        yield write


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("threadwire_agents.langgraph.agent")
    vars(module)["LangGraphAgent"] = Hosted
    monkeypatch.setitem(sys.modules, module.__name__, module)


async def load(*names: str) -> dict[str, Agent]:
    async with AsyncExitStack() as stack:
        return await load_agents(names, stack)


GRAPHS = """
from __future__ import annotations

import contextlib
import threadwire
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_sdk.runtime import ServerRuntime

calls = []
builder = StateGraph(MessagesState)
builder.add_node("hello", lambda state: {})
builder.add_edge(START, "hello")
graph = builder.compile()
chain = RunnableLambda(lambda messages: "hello")
incomplete = StateGraph(MessagesState)
unfit = PromptTemplate.from_template("{a} {b}") | (lambda prompt: prompt.text)
settings = {}

def make():
    calls.append("make")
    return graph

async def make_later(): return builder

@contextlib.asynccontextmanager
async def opened():
    calls.append("open")
    yield graph
    calls.append("close")

def of_config(settings: RunnableConfig): return graph
def of_runtime(server: ServerRuntime | None): return graph
def by_name(config): return graph
def of_both(config, runtime): return graph
def of_anything(thing): return graph
def of_two(a, b): return graph

def make_nothing(): return {}
def make_incomplete(): return StateGraph(MessagesState)
def make_unfit(): return unfit
def fail(): raise OSError("no model")

async def agent(run: threadwire.Run): ...
async def other(run): ...
def make_agent(): return agent
"""


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize(
    "name",
    [
        "graph",
        "builder",
        "chain",
        "make",
        "make_later",
        "opened",
        "of_config",
        "of_runtime",
        "by_name",
        "of_both",
    ],
)
async def test_graphs_and_their_factories_are_hosted_as_they_are(write: Write, name: str) -> None:
    write("graphs.py", GRAPHS)
    agent = (await load(f"graphs.py:{name}"))[name]
    assert isinstance(agent, Hosted)
    assert agent.target is getattr(sys.modules["graphs"], name)


@pytest.mark.usefixtures("hosted")
async def test_a_factory_without_arguments_is_tried_once(write: Write) -> None:
    write("graphs.py", GRAPHS)
    await load("graphs.py:make", "graphs.py:opened", "graphs.py:of_config")
    assert sys.modules["graphs"].calls == ["make", "open", "close"]


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize("name", ["agent", "other", "make_agent", "of_anything"])
async def test_functions_that_say_nothing_of_graphs_stay_agents(write: Write, name: str) -> None:
    write("graphs.py", GRAPHS)
    (agent,) = (await load(f"graphs.py:{name}")).values()
    assert not isinstance(agent, Hosted)


def test_a_config_file_is_a_project(write: Write) -> None:
    path = write("langgraph.json", '{"graphs": {"a": "graphs.py:graph"}}')
    found: Project | None = config_file.find(path)
    assert found is not None


@pytest.mark.usefixtures("hosted")
async def test_a_config_file_serves_its_graphs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_THE_FILE", "")
    monkeypatch.delenv("KEY_OF_THE_FILE")
    write("app/src/my_app/__init__.py", "")
    write("app/src/my_app/graphs.py", GRAPHS)
    write(
        "app/src/my_app/key.py", "import os\nfrom .graphs import graph\nkey = os.environ['KEY_OF_THE_FILE']\n"
    )
    graphs = {
        "first": "./src/my_app/graphs.py:graph",
        "second": "my_app.key:graph",
        "third": {"path": "my_app.graphs:of_anything", "description": "made anew"},
        "fourth": "./src/my_app/graphs.py:opened",
        "fifth": "./src/my_app/graphs.py:by_name",
    }
    config = {"dependencies": ["."], "graphs": graphs, "env": {"KEY_OF_THE_FILE": "1"}}
    write("app/langgraph.json", json.dumps(config))
    for target in ("app", "app/langgraph.json"):
        agents = await load(target)
        assert list(agents) == ["first", "second", "third", "fourth", "fifth"]
        module = sys.modules["my_app.graphs"]
        targets: list[Any] = [module.graph, module.graph, module.of_anything, module.opened, module.by_name]
        assert [getattr(agent, "target", None) for agent in agents.values()] == targets
        assert [agent.name for agent in agents.values()] == list(agents)


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("graphs.py:settings", "graphs.py:settings is a dict; expected an agent"),
        ("graphs.py:make_nothing", "graphs.py:make_nothing returned a dict; expected an agent"),
        ("graphs.py:of_two", "graphs.py:of_two is a function of (a, b); expected an agent"),
        ("graphs.py:fail", "graphs.py:fail: calling it failed: OSError: no model ("),
        (
            "graphs.py:make_incomplete",
            "graphs.py:make_incomplete: it can't be hosted: ValueError: Graph must",
        ),
        (
            "graphs.py:make_unfit",
            "graphs.py:make_unfit: it can't be hosted: TypeError: RunnableSequence can't",
        ),
        ("graphs.py:garph", "graphs.py:garph: graphs.py has no 'garph'; did you mean 'graph'?"),
        ("nowhere.py:graph", "nowhere.py:graph: there is no file nowhere.py"),
    ],
)
async def test_a_target_that_is_no_graph_is_said(write: Write, target: str, said: str) -> None:
    write("graphs.py", GRAPHS)
    with pytest.raises(StartupError) as error:
        await load(target)
    assert str(error.value).startswith(said)


EXPECTED = "expected a graph, a StateGraph, a LangChain runnable, or a function of a config, a runtime"


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("./graphs.py:settings", f"langgraph.json: a is a dict; {EXPECTED}"),
        ("./graphs.py:make_nothing", f"langgraph.json: a returned a dict; {EXPECTED}"),
        (
            "./graphs.py:make_agent",
            f"langgraph.json: a returned a function of (run: 'threadwire.Run'); {EXPECTED}",
        ),
        ("./graphs.py:of_two", f"langgraph.json: a is a function of (a, b); {EXPECTED}"),
        ("./graphs.py:fail", "langgraph.json: a: calling it failed: OSError: no model ("),
        ("./graphs.py:make_incomplete", "langgraph.json: a: it can't be hosted: ValueError: Graph must"),
        ("./graphs.py:garph", "langgraph.json: a: graphs.py has no 'garph'; did you mean 'graph'?"),
        ("./nowhere.py:graph", "langgraph.json: a: there is no file nowhere.py"),
        ("nowhere.graphs:graph", "langgraph.json: a: no module 'nowhere' in "),
        (
            "./broken.py:graph",
            "langgraph.json: a: importing it failed: ModuleNotFoundError: No module named 'no_",
        ),
        ("./graphs.ts:graph", "langgraph.json: 'graphs.a': './graphs.ts:graph' is not Python"),
        ("graphs", "langgraph.json: 'graphs.a': 'graphs' doesn't say what to serve"),
    ],
)
async def test_an_entry_that_is_no_graph_is_said(write: Write, target: str, said: str) -> None:
    write("graphs.py", GRAPHS)
    write("broken.py", "import no_such_package\n")
    write("langgraph.json", json.dumps({"graphs": {"a": target}}))
    with pytest.raises(StartupError) as error:
        await load("langgraph.json")
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"graphs": {\n', "langgraph.json: line 2, column 1: Expecting property name"),
        (
            '{"graphs": {"a": "x.py:y"}, "auth": {"path": "a.py:b"}}',
            "langgraph.json: 'auth.path' is not supported",
        ),
        ('{"graphs": {"a": "x.py:y"}}', "langgraph.json: a: there is no file x.py"),
        ('{"graphs": {"a": "broken.py:y"}}', "langgraph.json: a: importing it failed: ZeroDivisionError"),
    ],
)
def test_an_error_is_one_line_and_status_1(
    write: Write,
    content: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "configure_logging", lambda level: None)
    write("langgraph.json", content)
    path = write("broken.py", "1 / 0\n")
    assert cli.main(["serve", "."]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"threadwire: {message}")
    assert captured.err.count("\n") == 1
    if "broken" in content:
        assert f"({path}, line 1); --debug shows the traceback" in captured.err


def test_a_name_for_several_graphs_is_wrong_usage(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "configure_logging", lambda level: None)
    write("langgraph.json", '{"graphs": {"a": "x.py:y", "b": "x.py:y"}}')
    assert cli.main(["serve", "mine=langgraph.json"]) == 2
    assert capsys.readouterr().err == (
        "threadwire: 'mine=langgraph.json': langgraph.json names 2 agents itself: a, b\n"
    )


def test_the_demo_agents_do_not_hide_a_project(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[str]:
        caplog.clear()
        assert cli._demo_agents()
        return [record.getMessage() for record in caplog.records if record.name == "threadwire"]

    with caplog.at_level("INFO", "threadwire"):
        assert said() == []
        write("langgraph.json", "{")
        assert said() == []
        write("langgraph.json", '{"graphs": {"a": "x.py:y"}}')
        assert said() == ["serving the demo agents; `threadwire serve .` serves what langgraph.json names"]


@pytest.mark.usefixtures("hosted")
async def test_a_refusal_of_ours_points_at_no_line_of_ours(write: Write) -> None:
    write("graphs.py", GRAPHS)
    with pytest.raises(StartupError) as error:
        await load("graphs.py:make_unfit")
    assert str(error.value).endswith("put a function before it that makes this of the messages")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOAD = """
import asyncio, contextlib, sys
from threadwire.cli.errors import StartupError
from threadwire.cli.targets import load_agents
async def load():
    async with contextlib.AsyncExitStack() as stack:
        return await load_agents([{target!r}], stack)
{before}
try:
    print([type(agent).__name__ for agent in asyncio.run(load()).values()])
except StartupError as error:
    print(error)
print([name for name in ("langgraph", "langchain_core", "pydantic") if sys.modules.get(name)])
"""


@pytest.mark.parametrize(
    "before",
    ["", "sys.modules['langgraph'] = sys.modules['langchain_core'] = None"],
    ids=["there", "missing"],
)
def test_a_function_agent_is_served_without_langgraph(write: Write, before: str) -> None:
    write("mine.py", "async def agent(run): ...\n")
    assert python(LOAD.format(target="mine.py:agent", before=before)) == "['FunctionAgent']\n[]"


def test_a_graph_where_langgraph_is_missing_says_what_to_install(write: Write) -> None:
    write("mine.py", "def make(config): ...\n")
    before = "sys.modules['langgraph'] = sys.modules['langchain_core'] = None"
    said = python(LOAD.format(target="mine.py:make", before=before)).splitlines()[0]
    assert said.startswith("mine.py:make: it can't be hosted: ImportError: ")
    assert "install threadwire[langgraph]" in said
