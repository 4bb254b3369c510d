"""From what the user names (`module:attr`, `path/file.py:attr`, a project) to the agents that are served.

Files are imported under a module name that can be imported again, so that classes defined in them
can be pickled and their annotations resolved.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import keyword
import os
import re
import sys
import sysconfig
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from ..engine.agent import Agent, as_agent
from .errors import StartupError, UsageError, reason
from .plugins import Host, Project, extra_of, find_project, hosts

_NAME: Final = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
_OURS: Final = ("threadwire", "threadwire_agents")
"""The packages whose frames are none of the user's, wherever they are installed."""
_EXPECTED: Final = (
    "an agent, an async function that takes a run, a graph, or a function without arguments that returns one"
)


@dataclass(frozen=True)
class Target:
    """`text` is what the user wrote; `source` is a file where it ends in `.py`, else a module's name.

    `project` is what names the target, where it isn't the user.
    """

    text: str
    name: str | None
    source: str
    attribute: str
    project: Project | None = None

    @property
    def rename(self) -> str:
        """How to give it another name."""
        if self.project is not None:
            return f"give it another name in {self.project.file}"
        return f"write NAME={self.source}:{self.attribute}"

    @property
    def expected(self) -> str:
        return _EXPECTED if self.project is None else self.project.expected

    @property
    def is_file(self) -> bool:
        return self.source.endswith(".py")


@dataclass(frozen=True)
class ProjectTarget:
    """A file or directory that says itself what to serve. `name` is for the one agent it has."""

    text: str
    name: str | None
    path: Path


def parse_target(text: str) -> Target | ProjectTarget:
    """Reads `[NAME=]SOURCE:ATTRIBUTE`, or `[NAME=]PATH` of a directory or a .json file. Raises UsageError."""
    name, equals, rest = text.partition("=")
    if not equals or ":" in name or "/" in name:
        name, rest = "", text
    elif not _NAME.fullmatch(name):
        raise UsageError(f"{text!r}: an agent's name is 1 to 64 letters, digits, _ . ~ or -")
    if _is_project(rest):
        return ProjectTarget(text=text, name=name or None, path=Path(rest))
    source, colon, attribute = rest.rpartition(":")
    if not colon or not source or not attribute:
        raise UsageError(f"{text!r} doesn't say what to serve: {_attribute_hint(rest)}")
    target = Target(text=text, name=name or None, source=source, attribute=attribute)
    _check(target, UsageError, repr(text))
    return target


def _is_project(path: str) -> bool:
    return (
        path.endswith((".json", "/", os.sep)) or path in (".", "..") or (bool(path) and Path(path).is_dir())
    )


def _attribute_hint(source: str) -> str:
    return f"write {source.strip(':/') or 'my_agent.py'}:NAME, NAME being what it holds"


def _check(target: Target, kind: type[Exception], what: str) -> None:
    if not all(part.isidentifier() for part in target.attribute.split(".")):
        raise kind(f"{what}: {target.attribute!r} is no Python name")
    if not target.is_file and not all(part.isidentifier() for part in target.source.split(".")):
        raise kind(f"{what}: {target.source!r} is neither a module nor a .py file")


async def load_agents(targets: Sequence[str], stack: AsyncExitStack) -> dict[str, Agent]:
    """The agents by route name, in order. What factories open is closed by `stack`.

    Raises:
        UsageError: a target can't be read.
        StartupError: it can't be loaded, is no agent, or its name is taken.
    """
    parsed = [parse_target(text) for text in targets]
    known = hosts()
    agents: dict[str, Agent] = {}
    for named in parsed:
        for target in _open_project(named) if isinstance(named, ProjectTarget) else (named,):
            name, agent = await _load_agent(target, known, stack)
            if name in agents:
                raise StartupError(f"{target.text}: an agent is named {name!r} already; {target.rename}")
            agents[name] = agent
    return agents


async def _load_agent(target: Target, known: Sequence[Host], stack: AsyncExitStack) -> tuple[str, Agent]:
    found = _attribute(target, _import(target))
    name = target.name or target.attribute.rpartition(".")[2]
    if target.name is not None and not _NAME.fullmatch(name):
        raise StartupError(f"{target.text}: {name!r} can't be an agent's name; {target.rename}")
    agent = _convert(target, known, found, name)
    if agent is None and callable(found) and _takes_nothing(found):
        agent = await _convert_product(target, known, found, name, stack)
        name = target.name or agent.name
    if agent is None:
        raise StartupError(f"{target.text} is {_describe(found)}; expected {target.expected}")
    if not _NAME.fullmatch(name):
        raise StartupError(f"{target.text}: {name!r} can't be an agent's name; {target.rename}")
    return name, agent


# projects


def _open_project(target: ProjectTarget) -> list[Target]:
    """What a project names; from here on its modules can be imported and its variables are set."""
    if not target.path.exists():
        kind = "file" if target.path.suffix else "directory"
        raise StartupError(f"{target.text}: there is no such {kind}")
    project = find_project(target.path)
    if project is None:
        hint = _attribute_hint(target.text) if target.text.strip("/").isidentifier() else ""
        raise StartupError(
            f"{target.text} doesn't say what to serve: there is no langgraph.json in it"
            + (f"; for what a module holds, {hint}" if hint else "")
        )
    if target.name is not None and len(project.targets) != 1:
        names = ", ".join(project.targets)
        raise UsageError(
            f"{target.text!r}: {project.file} names {len(project.targets)} agents itself: {names}"
        )
    for name, value in project.environment.items():
        os.environ.setdefault(name, value)
    for path in reversed(project.paths):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    targets = []
    for name, place in project.targets.items():
        source, _, attribute = place.rpartition(":")
        text = f"{project.file}: {name}"
        entry = Target(text, target.name or name, source, attribute, project)
        _check(entry, StartupError, text)
        targets.append(entry)
    return targets


# objects


def _convert(target: Target, known: Sequence[Host], found: object, name: str) -> Agent | None:
    if isinstance(found, Agent):
        return found
    # Hosts before functions: a framework may know its own functions by their annotations.
    agent = _host(target, known, found, name)
    return agent if agent is not None or target.project is not None else as_agent(found, name)


def _host(
    target: Target,
    known: Sequence[Host],
    found: object,
    name: str,
    factory: Callable[[], object] | None = None,
) -> Agent | None:
    for host in known if target.project is None else (target.project.host,):
        with _blaming(target, "it can't be hosted"):
            agent = host(found, name, factory)
        if agent is not None:
            return agent
    return None


async def _convert_product(
    target: Target, known: Sequence[Host], factory: Callable[[], object], name: str, stack: AsyncExitStack
) -> Agent:
    """The agent that a function without arguments makes; one that a host makes of it calls it again."""
    hosted = kept = made = None
    async with AsyncExitStack() as opened:
        made = await _call(target, factory, opened)
        hosted = None if isinstance(made, Agent) else _host(target, known, made, name, factory)
        if hosted is not None:
            with _blaming(target, "closing what it returned failed"):
                await opened.aclose()
        else:
            kept = made if isinstance(made, Agent) else None if target.project else as_agent(made, name)
            if kept is not None:
                stack.push_async_exit(opened.pop_all())
    agent = hosted or kept
    if agent is None:
        raise StartupError(f"{target.text} returned {_describe(made)}; expected {target.expected}")
    return agent


def _takes_nothing(found: Callable[..., object]) -> bool:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


async def _call(target: Target, factory: Callable[[], object], stack: AsyncExitStack) -> object:
    """What the factory returns, awaited, and entered where it is a context manager."""
    with _blaming(target, "calling it failed"):
        made = factory()
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, Agent):
            return made
        if isinstance(made, AbstractAsyncContextManager):
            return await stack.enter_async_context(made)
        if isinstance(made, AbstractContextManager):
            return stack.enter_context(made)
        return made


def _attribute(target: Target, module: ModuleType) -> object:
    found: object = module
    for part in target.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [name for name in dir(found) if not name.startswith("_")]
            close = difflib.get_close_matches(part, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise StartupError(f"{target.text}: {target.source} has no {part!r}{hint}") from None
    return found


def _describe(found: object) -> str:
    if found is None:
        return "None"
    if inspect.isroutine(found):
        return f"a function of {inspect.signature(found)}" if inspect.isfunction(found) else "a function"
    if isinstance(found, ModuleType | type):
        return f"a {type(found).__name__ if isinstance(found, ModuleType) else 'class'}"
    kind = type(found).__qualname__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


# modules


def _import(target: Target) -> ModuleType:
    if target.is_file:
        path = Path(target.source)
        if not path.is_file():
            raise StartupError(f"{target.text}: there is no file {target.source}")
        with _blaming(target, "importing it failed"):
            return _import_file(path.resolve())
    here = str(Path.cwd() if target.project is None else target.project.file.parent.resolve())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, and the `threadwire` command has not
    try:
        missing = importlib.util.find_spec(target.source.partition(".")[0]) is None
    except ValueError:
        missing = False
    if missing:
        raise StartupError(
            f"{target.text}: no module {target.source.partition('.')[0]!r} in {here} or installed"
        )
    with _blaming(target, "importing it failed"):
        return importlib.import_module(target.source)


def _import_file(path: Path) -> ModuleType:
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        names.insert(0, root.name)
        root = root.parent
    if names[-1] == "__init__" and len(names) > 1:
        names.pop()
    if all(_is_module_name(name) for name in names) and _stands_for(names[0], root):
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        importlib.invalidate_caches()
        return importlib.import_module(".".join(names))
    return _import_alone(path)


def _import_alone(path: Path) -> ModuleType:
    """Imports a file whose own name is no module's or another module's, under one derived from it."""
    name = re.sub(r"\W", "_", f"_{path.stem}" if path.stem[:1].isdigit() else path.stem)
    if not _is_module_name(name) or not _stands_for(name, path.parent, path):
        name = f"{name}_{zlib.crc32(str(path).encode()):08x}"
    known = sys.modules.get(name)
    if known is not None:
        return known
    if str(path.parent) not in sys.path:
        # At the end: it may hold files that must not hide other modules, this one to begin with.
        sys.path.append(str(path.parent))
        importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_module_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _stands_for(name: str, root: Path, file: Path | None = None) -> bool:
    """Whether `import name` means what is in `root` (or `file`), or nothing yet."""
    known = sys.modules.get(name)
    try:
        spec = known.__spec__ if known is not None else importlib.util.find_spec(name)
    except (ValueError, AttributeError):
        return False
    if spec is None:
        return known is None
    if spec.origin is None:
        return known is None  # a directory that could be a package: a module of the name goes before it
    mine = (file,) if file is not None else (root / f"{name}.py", root / name / "__init__.py")
    return Path(spec.origin).resolve() in mine


# errors


@contextmanager
def _blaming(target: Target, what: str) -> Iterator[None]:
    """Turns what the target's own code raises into one line that says where; the traceback begins there."""
    try:
        yield
    except (Exception, SystemExit) as error:
        where = ""
        trace = error.__traceback__
        while trace is not None and not _is_users(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        if trace is not None and not isinstance(error, SyntaxError):  # which says it itself
            file, line = [
                (frame.f_code.co_filename, line)
                for frame, line in traceback.walk_tb(trace)
                if _is_users(frame.f_code.co_filename)
            ][-1]
            where = f" ({file}, line {line})"
        extra = extra_of(error.name) if isinstance(error, ModuleNotFoundError) and error.name else None
        hint = f"; pip install '{extra}' adds it" if extra else ""
        said = f"{target.text}: {what}: {reason(error)}{where}{hint}"
        raise StartupError(said) from error.with_traceback(trace)


def _is_users(filename: str) -> bool:
    """Whether a file is neither Python's nor an installed package's nor one of ours."""
    paths = sysconfig.get_paths()
    installed = [paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    ours = [path + os.sep for name in _OURS if name in sys.modules for path in sys.modules[name].__path__]
    return not filename.startswith((*installed, *ours, "<"))
