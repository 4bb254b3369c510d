"""What can be named as a target, and what is said where it can't be served."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import threadwire
from threadwire.cli import plugins
from threadwire.cli.errors import StartupError, UsageError
from threadwire.cli.targets import ProjectTarget, Target, load_agents, parse_target
from threadwire.engine.agent import Agent

pytestmark = pytest.mark.anyio

Project = Callable[[str, str], Path]

AGENTS = """
import threadwire

@threadwire.agent
async def first(run): ...

@threadwire.agent(name="own-name")
async def second(run): ...

async def plain(run): ...

def blocking(run): ...

def make(): return first

def make_named(): return second

async def make_later(): return plain

class Custom(threadwire.Agent):
    def __init__(self):
        super().__init__("custom")

class Holder:
    inner = first

settings = {}

def make_nothing(): return None

def two(a, b): ...
"""


async def load(*names: str) -> dict[str, Agent]:
    async with AsyncExitStack() as stack:
        return await load_agents(names, stack)


@pytest.mark.parametrize(
    ("text", "name", "source", "attribute"),
    [
        ("my_agent:agent", None, "my_agent", "agent"),
        ("pkg.mod:a.b", None, "pkg.mod", "a.b"),
        ("dir/my-agent.py:agent", None, "dir/my-agent.py", "agent"),
        ("support=pkg.mod:agent", "support", "pkg.mod", "agent"),
        ("a.b~c-1=x.py:agent", "a.b~c-1", "x.py", "agent"),
        ("x=y=z.py:agent", "x", "y=z.py", "agent"),
        ("dir/x=z.py:agent", None, "dir/x=z.py", "agent"),
        (r"C:\agents\x.py:agent", None, r"C:\agents\x.py", "agent"),
    ],
)
def test_a_target_is_read(text: str, name: str | None, source: str, attribute: str) -> None:
    target = parse_target(text)
    assert isinstance(target, Target)
    assert (target.name, target.source, target.attribute) == (name, source, attribute)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("my_agent.py", "write my_agent.py:NAME"),
        ("my_agent", "write my_agent:NAME"),
        ("my_agent.py:", "write my_agent.py:NAME"),
        (":agent", "doesn't say what to serve"),
        ("", "doesn't say what to serve"),
        ("my_agent.py:a-b", "'a-b' is no Python name"),
        ("my-agent:agent", "'my-agent' is neither a module nor a .py file"),
        ("=my_agent:agent", "an agent's name is"),
        ("süß=my_agent:agent", "an agent's name is"),
    ],
)
def test_what_is_no_target_is_wrong_usage(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_target(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("my_agents.py:first", "first"),
        ("my_agents:first", "first"),
        ("my_agents.py:second", "second"),
        ("my_agents.py:plain", "plain"),
        ("my_agents.py:blocking", "blocking"),
        ("my_agents.py:Holder.inner", "inner"),
        ("my_agents.py:make", "first"),
        ("my_agents.py:make_named", "own-name"),
        ("my_agents.py:make_later", "make_later"),
        ("my_agents.py:Custom", "custom"),
        ("mine=my_agents.py:make", "mine"),
        ("mine=my_agents.py:plain", "mine"),
    ],
)
async def test_agents_functions_and_factories_are_served(project: Project, target: str, name: str) -> None:
    project("my_agents.py", AGENTS)
    agents = await load(target)
    assert list(agents) == [name]
    assert isinstance(agents[name], threadwire.Agent)


async def test_the_order_of_targets_is_kept(project: Project) -> None:
    project("my_agents.py", AGENTS)
    assert list(await load("my_agents.py:second", "my_agents:first", "z=my_agents.py:first")) == [
        "second",
        "first",
        "z",
    ]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nowhere.py:agent"], "nowhere.py:agent: there is no file nowhere.py"),
        (["nowhere:agent"], "nowhere:agent: no module 'nowhere'"),
        (["nowhere.deeper:agent"], "no module 'nowhere'"),
        (["my_agents.deeper:agent"], "importing it failed: ModuleNotFoundError"),
        (["my_agents.py:frist"], "my_agents.py has no 'frist'; did you mean 'first'?"),
        (["my_agents.py:Holder.other"], "my_agents.py has no 'other'"),
        (["my_agents.py:settings"], "my_agents.py:settings is a dict; expected an agent"),
        (["my_agents.py:threadwire"], "my_agents.py:threadwire is a module; expected"),
        (["my_agents.py:two"], "my_agents.py:two is a function of (a, b); expected"),
        (["my_agents.py:make_nothing"], "my_agents.py:make_nothing returned None; expected"),
        (["my_agents.py:Holder"], "my_agents.py:Holder returned a Holder; expected"),
        (
            ["my_agents.py:first", "my_agents:first"],
            "an agent is named 'first' already; write NAME=my_agents:first",
        ),
    ],
)
async def test_what_cannot_be_served_is_said(project: Project, names: list[str], said: str) -> None:
    project("my_agents.py", AGENTS)
    with pytest.raises(StartupError) as error:
        await load(*names)
    assert said in str(error.value)


async def test_an_error_of_the_targets_own_code_says_where_it_was_raised(project: Project) -> None:
    path = project("broken.py", "import json\nvalue = json.loads('{')\n")
    with pytest.raises(StartupError) as error:
        await load("broken.py:agent")
    said = str(error.value)
    assert said.startswith("broken.py:agent: importing it failed: JSONDecodeError: Expecting property name")
    assert said.endswith(f"({path}, line 2)")
    trace = error.value.__cause__.__traceback__ if error.value.__cause__ else None
    assert trace is not None
    assert trace.tb_frame.f_code.co_filename == str(path)
    assert "broken" not in sys.modules


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def agent(:\n", "SyntaxError: invalid syntax (target.py, line 1)"),
        ("import sys\nsys.exit('not today')\n", "SystemExit: not today"),
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
async def test_a_target_that_cannot_be_imported_is_said(project: Project, source: str, said: str) -> None:
    project("target.py", source)
    with pytest.raises(StartupError) as error:
        await load("target.py:agent")
    assert said in str(error.value)


async def test_a_framework_that_is_missing_is_said_with_what_adds_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project("graphs.py", "import langgraph\n")
    monkeypatch.setitem(sys.modules, "langgraph", None)  # as if it weren't installed
    with pytest.raises(StartupError, match=r"; pip install 'threadwire\[langgraph\]' adds it$"):
        await load("graphs.py:graph")


async def test_a_factory_that_fails_is_said(project: Project) -> None:
    path = project("my_agents.py", "async def make():\n    raise OSError('no model')\n")
    with pytest.raises(StartupError) as error:
        await load("my_agents.py:make")
    assert str(error.value) == f"my_agents.py:make: calling it failed: OSError: no model ({path}, line 2)"


async def test_what_a_factory_opens_is_closed_at_the_end(project: Project) -> None:
    project(
        "my_agents.py",
        """
import contextlib
log = []
async def plain(run): ...

@contextlib.asynccontextmanager
async def opened():
    log.append("open")
    yield plain
    log.append("closed")

@contextlib.contextmanager
def held():
    log.append("held")
    yield plain
    log.append("released")
""",
    )
    async with AsyncExitStack() as stack:
        agents = await load_agents(["my_agents.py:opened", "my_agents.py:held"], stack)
        assert list(agents) == ["opened", "held"]
        log = sys.modules["my_agents"].log
        assert log == ["open", "held"]
    assert log == ["open", "held", "released", "closed"]


CLASSES = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    next: Point | None = None

async def agent(run): ...
"""


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("points.py", "points"),
        ("inner/points.py", "points"),
        ("geometry/points.py", "geometry.points"),
        ("2d-points.py", "_2d_points"),
        ("class.py", "class_"),
    ],
)
async def test_classes_of_a_file_can_be_pickled_and_their_annotations_resolved(
    project: Project, file: str, module: str
) -> None:
    project("geometry/__init__.py", "")
    path = str(project(file, CLASSES))
    await load(f"{file}:agent")
    loaded = next(m for m in sys.modules.values() if getattr(m, "__file__", None) == path)
    assert loaded.__name__.startswith(module)
    point = loaded.Point(1, loaded.Point(2))
    assert pickle.loads(pickle.dumps(point)) == point
    assert get_type_hints(loaded.Point)["x"] is int


async def test_a_file_in_a_package_may_import_its_siblings(project: Project) -> None:
    project("pkg/__init__.py", "")
    project("pkg/base.py", "async def plain(run): ...\n")
    project("pkg/sub/__init__.py", "")
    project("pkg/sub/agents.py", "from ..base import plain\n")
    assert list(await load("pkg/sub/agents.py:plain", "again=pkg.base:plain")) == ["plain", "again"]
    assert "pkg.sub.agents" in sys.modules


async def test_a_file_beside_others_may_import_them(project: Project) -> None:
    project("dir/helpers.py", "async def plain(run): ...\n")
    project("dir/agents.py", "from helpers import plain\n")
    assert list(await load("dir/agents.py:plain")) == ["plain"]


async def test_a_file_named_as_a_known_module_does_not_hide_it(project: Project) -> None:
    project("json.py", "import json\nloads = json.loads\nasync def agent(run): ...\n")
    project("dir/anyio.py", "from anyio import sleep\nasync def agent(run): ...\n")
    assert list(await load("json.py:agent", "other=dir/anyio.py:agent")) == ["agent", "other"]
    import json

    assert json.loads("1") == 1


async def test_two_files_of_the_same_name_are_two_modules(project: Project) -> None:
    paths = [str(project(f"{name}/graph.py", "async def agent(run): ...\n")) for name in "ab"]
    agents = await load("a=a/graph.py:agent", "b=b/graph.py:agent", "again=b/graph.py:agent")
    assert list(agents) == ["a", "b", "again"]
    files = [getattr(module, "__file__", None) for module in sys.modules.values()]
    assert [files.count(path) for path in paths] == [1, 1]


async def test_a_file_is_imported_once_for_all_its_agents(project: Project) -> None:
    path = str(project("my-agents.py", "async def a(run): ...\nasync def b(run): ...\n"))
    await load("my-agents.py:a", "./my-agents.py:b")
    assert len([m for m in sys.modules.values() if getattr(m, "__file__", None) == path]) == 1


class Graph:
    """An object of a framework that the server doesn't know."""


class GraphAgent(Agent):
    def __init__(self, name: str, target: object) -> None:
        super().__init__(name)
        self.target = target


def graph_host(found: object, name: str, factory: object = None, /) -> Agent | None:
    if isinstance(found, Graph):
        return GraphAgent(name, factory or found)
    if getattr(found, "__name__", "") == "graph_of_a_config":
        return GraphAgent(name, found)
    return None


def failing_host(found: object, name: str, factory: object = None, /) -> Agent | None:
    raise ValueError("a channel may not be named 'threadwire'")


@dataclass(frozen=True)
class PlanProject:
    file: Path
    targets: Mapping[str, str]
    paths: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    expected: str = "a plan"
    host: Any = graph_host


def find_plan(path: Path) -> PlanProject | None:
    """`plan.json` is JSON of a project's fields; paths are relative to it."""
    file = path / "plan.json" if path.is_dir() else path
    if not file.is_file():
        return None
    if not file.read_text():
        raise ValueError(f"{file}: it is empty")
    plan = json.loads(file.read_text())
    plan["paths"] = [(file.parent / one).resolve() for one in plan.get("paths", [])]
    plan["targets"] = {
        name: str(file.parent / target) if ".py" in target else target
        for name, target in plan["targets"].items()
    }
    return PlanProject(file=file, **plan)


def use_plugins(monkeypatch: pytest.MonkeyPatch, *hosts: str, projects: Sequence[str] = ()) -> None:
    module = types.ModuleType("some_plugins")
    vars(module).update(graph=graph_host, failing=failing_host, plan=find_plan)
    monkeypatch.setitem(sys.modules, "some_plugins", module)
    points = {
        "threadwire.hosts": [
            EntryPoint(name=value, value=value, group="threadwire.hosts") for value in hosts
        ],
        "threadwire.projects": [
            EntryPoint(name=value, value=value, group="threadwire.projects") for value in projects
        ],
    }
    monkeypatch.setattr(plugins, "entry_points", lambda *, group: points[group])


GRAPHS = """
import contextlib
from some_plugins import graph

log = []
Graph = graph.__globals__["Graph"]
graph = Graph()
async def plain(run): ...
def make(): return Graph()
def graph_of_a_config(one): return Graph()

@contextlib.asynccontextmanager
async def opened():
    log.append("open")
    yield Graph()
    log.append("closed")

@contextlib.asynccontextmanager
async def careless():
    yield Graph()
    raise OSError("it was open")

class Careful:
    async def __aenter__(self): return {}
    async def __aexit__(self, *raised): return True
"""


async def test_hosts_make_agents_of_other_frameworks_objects(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_plugins(monkeypatch, "not_installed:host", "some_plugins:graph")
    project("graphs.py", GRAPHS)
    agents = await load(
        "graphs.py:graph", "a=graphs.py:graph", "graphs.py:plain", "graphs.py:graph_of_a_config"
    )
    graphs = sys.modules["graphs"]
    assert {name: getattr(agent, "target", None) for name, agent in agents.items()} == {
        "graph": graphs.graph,
        "a": graphs.graph,
        "plain": None,
        "graph_of_a_config": graphs.graph_of_a_config,
    }


async def test_a_host_gets_the_factory_and_what_it_opened_is_closed_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_plugins(monkeypatch, "some_plugins:graph")
    project("graphs.py", GRAPHS)
    async with AsyncExitStack() as stack:
        agents = await load_agents(["graphs.py:make", "graphs.py:opened"], stack)
        graphs = sys.modules["graphs"]
        assert [getattr(agent, "target", None) for agent in agents.values()] == [graphs.make, graphs.opened]
        assert graphs.log == ["open", "closed"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("graphs.py:careless", "graphs.py:careless: closing what it returned failed: OSError: it was open ("),
        ("graphs.py:Careful", "graphs.py:Careful returned a dict; expected an agent"),
    ],
)
async def test_a_context_manager_hides_no_error_of_the_start(
    project: Project, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    use_plugins(monkeypatch, "some_plugins:graph")
    project("graphs.py", GRAPHS)
    with pytest.raises(StartupError) as error:
        await load(target)
    assert str(error.value).startswith(said)


async def test_a_host_that_refuses_an_object_says_why(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_plugins(monkeypatch, "some_plugins:failing")
    project("my_agents.py", "thing = object()\n")
    with pytest.raises(StartupError, match="it can't be hosted: ValueError: a channel may not be named"):
        await load("my_agents.py:thing")


async def test_a_plugin_that_cannot_be_loaded_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project("bad_plugin.py", "1 / 0\n")
    project("my_agents.py", "thing = object()\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    use_plugins(monkeypatch, "bad_plugin:host")
    with pytest.raises(StartupError, match="the plugin bad_plugin:host can't be loaded: ZeroDivisionError"):
        await load("my_agents.py:thing")


@pytest.mark.parametrize("text", [".", "plans/", "plans", "./plans", "x=plans/plan.json", "other.json"])
def test_a_directory_or_a_json_file_is_a_project(project: Project, text: str) -> None:
    project("plans/plan.json", "")
    assert isinstance(parse_target(text), ProjectTarget)


def plan(**fields: object) -> str:
    return json.dumps(fields)


async def test_a_project_serves_what_it_names(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    use_plugins(monkeypatch, projects=["not_installed:find", "some_plugins:plan"])
    project("plans/inner/graphs.py", GRAPHS)
    project("plans/lib/more_graphs.py", "import os\nfrom graphs import graph\nkey = os.environ['A_KEY']\n")
    project(
        "plans/plan.json",
        plan(
            targets={"one": "inner/graphs.py:graph", "two": "more_graphs:graph", "three": "graphs:make"},
            paths=["inner", "lib"],
            environment={"A_KEY": "a", "B_KEY": "b"},
        ),
    )
    monkeypatch.setenv("A_KEY", "")  # so that it is gone again at the end
    monkeypatch.delenv("A_KEY")
    monkeypatch.setenv("B_KEY", "mine")
    agents = await load("plans")
    graphs = sys.modules["graphs"]
    assert [getattr(agent, "target", None) for agent in agents.values()] == [
        graphs.graph,
        graphs.graph,
        graphs.make,
    ]
    assert list(agents) == ["one", "two", "three"]
    assert sys.modules["more_graphs"].key == "a"
    assert os.environ["B_KEY"] == "mine"
    paths = [str(Path("plans", name).resolve()) for name in ("inner", "lib")]
    assert [path for path in sys.path if path in paths] == paths


async def test_a_name_is_for_a_project_of_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    use_plugins(monkeypatch, projects=["some_plugins:plan"])
    project("graphs.py", GRAPHS)
    project("plan.json", plan(targets={"one": "graphs.py:graph"}))
    project("plans/plan.json", plan(targets={"one": "graphs.py:graph", "two": "graphs.py:graph"}))
    assert list(await load("mine=.")) == ["mine"]
    with pytest.raises(UsageError, match=r"'mine=plans': plans/plan\.json names 2 agents itself: one, two"):
        await load("mine=plans")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"one": "nowhere.py:graph"}, "plan.json: one: there is no file nowhere.py"),
        ({"one": "nowhere:graph"}, "plan.json: one: no module 'nowhere' in "),
        ({"one": "graphs.py:grahp"}, "plan.json: one: graphs.py has no 'grahp'; did you mean 'graph'?"),
        ({"one": "graphs.py:log"}, "plan.json: one is a list; expected a plan"),
        ({"one": "graphs.py:plain"}, "plan.json: one is a function of (run); expected a plan"),
        ({"one": "graphs.py:Careful"}, "plan.json: one returned a dict; expected a plan"),
        ({"one": "graphs.py:a-b"}, "plan.json: one: 'a-b' is no Python name"),
        ({"one": "a-b:graph"}, "plan.json: one: 'a-b' is neither a module nor a .py file"),
        (
            {"größe": "graphs.py:graph"},
            "plan.json: größe: 'größe' can't be an agent's name; give it another name in plan.json",
        ),
    ],
)
async def test_what_a_project_names_wrongly_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch, targets: dict[str, str], said: str
) -> None:
    use_plugins(monkeypatch, projects=["some_plugins:plan"])
    project("graphs.py", GRAPHS)
    project("plan.json", plan(targets=targets))
    with pytest.raises(StartupError) as error:
        await load("plan.json")
    assert str(error.value).startswith(said)


async def test_a_name_that_a_project_takes_again_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_plugins(monkeypatch, "some_plugins:graph", projects=["some_plugins:plan"])
    project("graphs.py", GRAPHS)
    project("plan.json", plan(targets={"graph": "graphs.py:graph"}))
    with pytest.raises(StartupError, match=r"named 'graph' already; give it another name in plan\.json"):
        await load("graphs.py:graph", ".")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere/", "nowhere/: there is no such directory"),
        ("nowhere.json", "nowhere.json: there is no such file"),
        ("wrong.json", "wrong.json: it is empty"),
        ("pkg", "pkg doesn't say what to serve: there is no langgraph.json in it; for what a module holds, "),
        ("pkg/", "pkg/ doesn't say what to serve"),
    ],
)
async def test_what_is_no_project_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    use_plugins(monkeypatch, projects=["some_plugins:plan"])
    project("pkg/__init__.py", "")
    project("wrong.json", "")
    with pytest.raises(StartupError) as error:
        await load(text)
    assert str(error.value).startswith(said)
