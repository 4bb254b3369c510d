"""From what the user names (`module:attr`, `path/file.py:attr`) to the agents that are served.

Files are imported under a module name that can be imported again, so that classes defined in them
can be pickled and their annotations resolved.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import keyword
import re
import sys
import sysconfig
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final, TypeAlias

from ..engine.agent import Agent, as_agent
from .errors import StartupError, UsageError, reason

HOSTS: Final = "threadwire.hosts"
"""The entry-point group of functions that make an agent of another framework's object."""

Host: TypeAlias = Callable[[object, str], Agent | None]

_NAME: Final = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
_OURS: Final = str(Path(__file__).parents[1])
_EXPECTED: Final = (
    "an agent, an async function that takes a run, a graph, or a function without arguments that returns one"
)


@dataclass(frozen=True)
class Target:
    """`text` is what the user wrote; `source` is a file where it ends in `.py`, else a module's name."""

    text: str
    name: str | None
    source: str
    attribute: str

    @property
    def named(self) -> str:
        """How to write it with a name of the user's choice."""
        return f"NAME={self.source}:{self.attribute}"

    @property
    def is_file(self) -> bool:
        return self.source.endswith(".py")


def parse_target(text: str) -> Target:
    """Reads `[NAME=]SOURCE:ATTRIBUTE`. Raises UsageError."""
    name, equals, rest = text.partition("=")
    if not equals or ":" in name or "/" in name:
        name, rest = "", text
    elif not _NAME.fullmatch(name):
        raise UsageError(f"{text!r}: an agent's name is 1 to 64 letters, digits, _ . ~ or -")
    source, colon, attribute = rest.rpartition(":")
    if not colon or not source or not attribute:
        whole = rest.strip(":") or "my_agent.py"
        raise UsageError(f"{text!r} doesn't say what to serve: write {whole}:NAME, NAME being what it holds")
    target = Target(text=text, name=name or None, source=source, attribute=attribute)
    if not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(f"{text!r}: {attribute!r} is no Python name")
    if not target.is_file and not all(part.isidentifier() for part in source.split(".")):
        raise UsageError(f"{text!r}: {source!r} is neither a module nor a .py file")
    return target


async def load_agents(targets: Sequence[str], stack: AsyncExitStack) -> dict[str, Agent]:
    """The agents by route name, in order. What factories open is closed by `stack`.

    Raises:
        UsageError: a target can't be read.
        StartupError: it can't be loaded, is no agent, or its name is taken.
    """
    parsed = [parse_target(text) for text in targets]
    agents: dict[str, Agent] = {}
    for target in parsed:
        name, agent = await _load_agent(target, stack)
        if name in agents:
            raise StartupError(f"{target.text}: an agent is named {name!r} already; write {target.named}")
        agents[name] = agent
    return agents


async def _load_agent(target: Target, stack: AsyncExitStack) -> tuple[str, Agent]:
    found = _attribute(target, _import(target))
    name = target.name or target.attribute.rpartition(".")[2]
    agent = _convert(target, found, name)
    if agent is None and _is_factory(found):
        made = await _call(target, found, stack)
        agent = _convert(target, made, name)
        if agent is None:
            raise StartupError(f"{target.text} returned {_describe(made)}; expected {_EXPECTED}")
        name = target.name or agent.name
    if agent is None:
        raise StartupError(f"{target.text} is {_describe(found)}; expected {_EXPECTED}")
    if not _NAME.fullmatch(name):
        raise StartupError(f"{target.text}: {name!r} can't be an agent's name; write {target.named}")
    return name, agent


# objects


def _convert(target: Target, found: object, name: str) -> Agent | None:
    agent = as_agent(found, name)
    if agent is not None:
        return agent
    for point in entry_points(group=HOSTS):
        with _blaming(target, "it can't be hosted"):
            try:
                host: Host = point.load()
            except ImportError:
                continue  # for a framework that isn't installed: the target is none of its objects
            agent = host(found, name)
        if agent is not None:
            return agent
    return None


def _is_factory(found: object) -> bool:
    if not callable(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


async def _call(target: Target, factory: object, stack: AsyncExitStack) -> object:
    """What the factory returns, awaited, and entered where it is a context manager."""
    assert callable(factory)
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
    here = str(Path.cwd())
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
        raise StartupError(f"{target.text}: {what}: {reason(error)}{where}") from error.with_traceback(trace)


def _is_users(filename: str) -> bool:
    """Whether a file is neither Python's nor an installed package's nor one of ours."""
    paths = sysconfig.get_paths()
    return not filename.startswith(
        (*(paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")), _OURS, "<")
    )
