"""What other packages add to the command line, found through entry points: hosts, projects, migrations.

A *host* makes agents of another framework's objects. A *project* is a file or directory that says
itself what to serve. The two are separate groups because a project decides before anything is
imported (the module path, the environment), and a host after. A *migration* copies what a framework keeps
beside the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from ..engine.agent import Agent
from .errors import StartupError, reason

HOSTS: Final = "threadwire.hosts"
"""The entry-point group of functions that make an agent of another framework's object: `Host`."""

PROJECTS: Final = "threadwire.projects"
"""The entry-point group of functions that read a file or directory: `FindProject`."""


MIGRATIONS: Final = "threadwire.migrations"
"""The entry-point group of functions that copy what is kept beside a store: `Migration`."""


class Host(Protocol):
    def __call__(
        self, found: object, name: str, factory: Callable[[], object] | None = None, /
    ) -> Agent | None:
        """An agent made of `found`, or None where it is none of the framework's objects.

        With `factory`, `found` is only a sample of what this function returns (awaited, entered), and
        is closed again: the agent calls `factory` itself, whenever it needs such an object.
        What it raises ends the start with one line.
        """


class Project(Protocol):
    """What a file or directory says is to be served.

    Attributes:
        file: what to call it in messages.
        targets: by agent name, `FILE.py:ATTRIBUTE` or `MODULE:ATTRIBUTE`.
        paths: directories to import from, before all others.
        environment: variables to set, where the process doesn't have them.
        expected: what its targets may be, in words.
        host: makes the agents; other hosts aren't asked.
    """

    @property
    def file(self) -> Path: ...
    @property
    def targets(self) -> Mapping[str, str]: ...
    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def expected(self) -> str: ...
    @property
    def host(self) -> Host: ...


FindProject: TypeAlias = Callable[[Path], Project | None]
"""Reads a file or directory that exists; None where it isn't one of its projects. It changes nothing.

It raises ValueError with one line for the user where the project is one of its own and is wrong.
"""


class Migration(Protocol):
    async def __call__(self, source: str, target: str, *, progress: Callable[[str, int], None]) -> int:
        """Copies what is kept beside the store `source`, a sqlite:/// URL, to what will be beside `target`.

        Returns how many there were. `progress` is called with what these are and how many are copied. It may
        be called again after it has failed. Raises StoreError.
        """


def migrations() -> Sequence[Migration]:
    """All of them. Raises StartupError."""
    return list(_load(MIGRATIONS))


def hosts() -> Sequence[Host]:
    """All hosts but those whose framework isn't installed. Raises StartupError."""
    return list(_load(HOSTS))


def find_project(path: Path) -> Project | None:
    """The project that a file or directory is, or None. Raises StartupError where it is a wrong one."""
    find: FindProject
    for find in _load(PROJECTS):
        try:
            project = find(path)
        except ValueError as error:
            raise StartupError(str(error)) from None
        if project is not None:
            return project
    return None


def extra_of(module: str) -> str | None:
    """What to install where the framework `module` is missing: a host of its name comes with an extra."""
    for point in entry_points(group=HOSTS, name=module):
        if point.dist is not None and module in (point.dist.metadata.get_all("Provides-Extra") or ()):
            return f"{point.dist.name}[{module}]"
    return None


def _load(group: str) -> Iterator[Any]:
    for point in entry_points(group=group):
        try:
            plugin = point.load()
        except ImportError:
            continue  # for a framework that isn't installed
        except Exception as error:
            raise StartupError(f"the plugin {point.value} can't be loaded: {reason(error)}") from error
        yield plugin
