"""The command `threadwire`: reads the arguments, runs the command, turns errors into one line each."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Final, NoReturn

from ..core.errors import StoreError
from ..core.schemas import frame_schemas
from ..endpoints.app import create_app
from ..engine.agent import Agent
from ..engine.store import Store
from ..stores import SQLiteStore, open_store
from ..version import __version__
from .chat.arguments import DESCRIPTION, ChatSettings, add_arguments, read_arguments
from .errors import StartupError, UsageError, one_line, reason
from .logs import configure_logging
from .plugins import find_project, migrations
from .serving import CLOSE_S, Server, allow_many_connections, bind, leave_soon, run
from .settings import ServeSettings, add_options, read_settings
from .targets import load_agents, parse_target
from .workers import Workers, inherited

logger = logging.getLogger("threadwire")

_FORCED = 130
_UNREAD = 141

_DESCRIPTION = """\
Threadwire hosts agents. It keeps each conversation's state as one document, streams every change of it
to any number of clients, and takes commands back."""

_SERVE = """\
Serves agents over WebSocket and HTTP until it is stopped with Ctrl-C or SIGTERM.

A TARGET names what to serve, and where it is:
  my_agent.py:my_agent      my_agent in the file my_agent.py
  my_package.agents:helper  helper in the module my_package.agents
  langgraph.json            every graph in the file, under its own name; also the directory it is in

It may be an agent, an async function that takes a run, a graph, or a function that returns one of these:
one without arguments, or for a graph one of a config or a runtime. The first target is the default
agent. Without a target, demo agents are served."""

_SERVE_EXAMPLES = """\
Every option can also be given as an environment variable: --drain-s is THREADWIRE_DRAIN_S, and so on.
What is given as an option wins.

examples:
  threadwire serve
  threadwire serve my_agent.py:my_agent
  threadwire serve .
  threadwire serve support=my_package.agents:make_support faq.py:faq --port 8080
  threadwire serve my_agent.py:my_agent --host 0.0.0.0 --allow-origin https://app.example.com"""


_MIGRATE = """\
Copies all threads of an SQLite file into an empty PostgreSQL database, with their logs and positions, and
the checkpoints of graphs: clients that come back go on where they were. The server that has the file open is
to be stopped before. It is all or nothing; the file stays as it is."""

_PROGRESS_S: Final = 2.0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        raise UsageError(f"{message} ({self.prog} --help tells what there is)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        status = _main(argv)
        if sys.stdout is not None:  # `>&-` closes it
            sys.stdout.flush()
    except BrokenPipeError:
        # `threadwire schema | head`: the reader has enough. Python would write the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    return status


def _main(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
        if arguments.command == "serve":
            given = list(sys.argv[1:] if argv is None else argv)
            return _serve(read_settings(arguments, os.environ), given)
        if arguments.command == "migrate":
            return _migrate(arguments.sqlite, arguments.postgresql)
        if arguments.command == "schema":
            return _schema()
        if arguments.command == "chat":
            return _chat(read_arguments(arguments, os.environ))
        _parser().print_help()
        return 2
    except SystemExit as leaving:  # argparse, after --help and --version
        return leaving.code if isinstance(leaving.code, int) else 0
    except UsageError as error:
        _say(error)
        return 2
    except StartupError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        return _FORCED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="threadwire", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"threadwire {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    serve = commands.add_parser(
        "serve",
        help="serve agents",
        description=_SERVE,
        epilog=_SERVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    serve.add_argument(
        "targets", nargs="*", metavar="[NAME=]TARGET", help="what to serve, and under which name"
    )
    add_options(serve)
    migrate = commands.add_parser(
        "migrate",
        help="copy the threads of an SQLite file into PostgreSQL",
        description=_MIGRATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    migrate.add_argument("sqlite", metavar="SQLITE", help="sqlite:///relative.db, sqlite:////absolute.db")
    migrate.add_argument("postgresql", metavar="POSTGRESQL", help="postgresql://USER@HOST/DATABASE")
    chat_parser = commands.add_parser(
        "chat",
        help="talk to an agent",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(chat_parser)
    commands.add_parser(
        "schema",
        help="print the JSON Schemas of the protocol",
        description="Prints the JSON Schemas of frames, operations and commands as one JSON object.",
        allow_abbrev=False,
    )
    return parser


def _say(message: object) -> None:
    print(f"threadwire: {one_line(message)}", file=sys.stderr)


def _schema() -> int:
    print(json.dumps(frame_schemas(), indent=2))
    return 0


def _migrate(source: str, target: str) -> int:
    store, goal = _known_store(source), _known_store(target)
    if not isinstance(store, SQLiteStore):
        raise UsageError(f"SQLITE: {_public(source)!r} is no sqlite:/// URL")
    if target.partition(":")[0] not in ("postgresql", "postgres"):
        raise UsageError(f"POSTGRESQL: {_public(target)!r} is no postgresql:// URL")
    path = store.url.removeprefix("sqlite:///")
    if not os.path.isfile(path):
        raise StartupError(f"there is no file {path}")
    from ..stores.migration import copy_store  # needs what not every installation has

    progress = _Progress()

    async def copy_beside() -> None:
        for migration in migrations():
            await migration(store.url, goal.url, progress=progress)

    try:
        counts = run(copy_store(path, goal.url, progress=progress, before=copy_beside))
    except StoreError as error:
        raise StartupError(one_line(error)) from None
    print(
        f"copied {counts['thread']} threads, {counts['log']} updates and {counts['inbox']} commands"
        f" to {_public(target)}"
    )
    return 0


class _Progress:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, what: str, count: int) -> None:
        if time.monotonic() - self._said_at >= _PROGRESS_S:
            self._said_at = time.monotonic()
            _say(f"{what}: {count} copied")


def _known_store(url: str) -> Store:
    try:
        return open_store(url)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _chat(settings: ChatSettings) -> int:
    from .chat.command import chat  # the server needs nothing of it

    return chat(settings)


def _serve(settings: ServeSettings, arguments: Sequence[str]) -> int:
    for target in settings.targets:
        parse_target(target)
    configure_logging(settings.log_level)
    allow_many_connections()
    alone = settings.workers == 1
    try:
        status = run(_serve_until_stopped(settings) if alone else _serve_by_workers(settings, arguments))
    except StartupError as error:
        hint = "; --debug shows the traceback" if error.__cause__ is not None and not settings.debug else ""
        _say(f"{error}{hint}")
        if settings.debug and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        status = 1
    leave_soon(status)
    return status


async def _serve_by_workers(settings: ServeSettings, arguments: Sequence[str]) -> int:
    with ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in bind(settings.host, settings.port)]
        for listener in listeners:
            listener.listen(2048)
        names = [f"in {settings.workers} processes"]
        workers = Workers(settings.workers, arguments, listeners, stop_s=settings.drain_s + 2 * CLOSE_S + 5)
        return await workers.run(lambda: _announce(settings, names, listeners))


async def _serve_until_stopped(settings: ServeSettings) -> int:
    given = inherited(os.environ)
    async with AsyncExitStack() as stack:
        agents = await load_agents(settings.targets, stack) if settings.targets else _demo_agents()
        listeners = bind(settings.host, settings.port) if given is None else given.listeners
        for listener in listeners:
            stack.enter_context(listener)
        try:
            application = create_app(
                agents=agents,
                store=open_store(settings.store, lease_s=settings.lease_s),
                allow_origins=settings.allow_origins,
                show_errors=settings.show_errors,
                history=settings.history,
                on_disconnect=settings.on_disconnect,
            )
        except ValueError as error:
            raise StartupError(f"--store: {error}") from None
        server = Server(
            application,
            drain_s=settings.drain_s,
            on_started=(
                (lambda: _announce(settings, list(agents), listeners)) if given is None else given.started
            ),
        )
        if given is not None:
            given.watch(server.stop)
        try:
            await server.serve(listeners)
        except StoreError as error:
            raise StartupError(f"the store {_public(settings.store)}: {one_line(error)}") from None
        except Exception as error:
            doing = "stopping" if server.started else "starting"
            raise StartupError(f"{doing} failed: {reason(error)}") from error
        return _FORCED if server.forced else 0


def _demo_agents() -> Mapping[str, Agent]:
    with suppress(StartupError):  # nobody asked for the project
        project = find_project(Path())
        if project is not None:
            logger.info("serving the demo agents; `threadwire serve .` serves what %s names", project.file)
    try:
        from threadwire_agents import demos
    except ImportError as error:
        raise StartupError("the demo agents are not installed here; name a TARGET to serve") from error
    try:
        return demos.agents()
    except ValueError as error:  # THREADWIRE_MODEL names none that can be used here
        raise StartupError(one_line(error)) from error.__cause__


def _announce(settings: ServeSettings, agents: list[str], listeners: list[socket.socket]) -> None:
    port = listeners[0].getsockname()[1]
    everywhere = settings.host in ("0.0.0.0", "::")
    host = "localhost" if everywhere else settings.host
    host = f"[{host}]" if ":" in host else host
    default, *others = agents
    lines = (
        f"Threadwire {__version__} serves on http://{host}:{port}"
        + (" and all addresses of this machine" if everywhere else "")
        + " (Ctrl-C stops it)",
        f"  agents     {', '.join((f'{default} (default)', *others) if others else (default,))}",
        f"  store      {_public(settings.store)}",
        f"  websocket  ws://{host}:{port}/ws",
        f"  assistant  http://{host}:{port}/assistant",
    )
    print("\n".join(lines), flush=True)


def _public(store: str) -> str:
    """A store's URL without its password."""
    return re.sub(r"//[^/@]*@", "//***@", store)
