"""Agents as the engine knows them, and the ones made of a function.

    @threadwire.agent
    async def echo(run: threadwire.Run) -> None: ...

    @echo.on(SetTitle)
    async def set_title(run: threadwire.Run, command: SetTitle) -> None: ...

Other frameworks' objects become agents through the entry-point group `threadwire.hosts`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, overload

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from ..core.commands import BUILT_IN, Command, CommandRegistry
from ..core.errors import Refused
from ..core.operations import Json
from .notes import Notes
from .run import Run
from .store import Store

C = TypeVar("C", bound=Command)
AgentFunction: TypeAlias = Callable[[Run], Awaitable[None] | AsyncIterator[object] | None]
TitleFunction: TypeAlias = Callable[[Json], Awaitable[str | None]]
HandlerFunction: TypeAlias = Callable[[Run, C], Awaitable[None] | None]

_THREADS: Final = 64
"""How many agents that block may run at once."""
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("threadwire-agents")


class Handler(Generic[C]):
    """What is called for a command type. `immediate`: at once, beside a run that goes on."""

    def __init__(self, function: HandlerFunction[C], *, immediate: bool) -> None:
        self.immediate = immediate
        self._function = function

    async def __call__(self, run: Run, command: C) -> None:
        outcome = self._function(run, command)
        if inspect.isawaitable(outcome):
            await outcome


class Agent:
    """The base of all agents: a name, the commands it accepts, and `run`.

    Attributes:
        name: the default name to serve it under.
        seed: whether clients may give a new thread its first state; None: stock HTTP clients only, which
            always send one.
        blocking: whether it edits the state from another thread than the event loop's.
        continues: whether it can go on with a run that a crash or a stop of the server has cut.
    """

    blocking: bool = False
    continues: bool = False

    def __init__(self, name: str, *, seed: bool | None = None) -> None:
        self.name = name
        self.seed = seed
        self._title: TitleFunction | None = None
        self.registry = CommandRegistry()
        self._handlers: dict[type[Command], Handler[Any]] = {}

    async def run(self, run: Run) -> None:
        """One run, from its commands to its end. What it raises ends the run as failed."""
        raise NotImplementedError

    async def recover(self, run: Run) -> None:
        """Goes on with a run that was cut, where it `continues`.

        `run.hosting.given` are the commands that were not settled. Like `run`, it must do nothing
        more to the run once it is cancelled, unless `run.cancelled` says that a client wanted that.
        It is not cancelled before it calls `run.hosting.recovered()`, but for the server's end.
        """
        raise NotImplementedError

    def read_seed(self, state: dict[str, Json]) -> dict[str, Json]:
        """What a thread begins with, of the first state that a client gives it. Hosts override it.

        Raises:
            Refused: naming what is wrong, under `state`.
        """
        return state

    def rolled_back(self, run: str, notes: Notes) -> None:
        """The state is what it was when the run of that id began; its notes are to follow.

        The run may have been cancelled before its agent was called, and has noted nothing then.
        """

    def serving(self, store: Store) -> AbstractAsyncContextManager[None]:
        """Entered before the server takes up threads, and left after the last is gone."""
        return nullcontext()

    async def deleted(self, thread: str) -> None:
        """A thread is gone, and what was kept beside it may go too."""

    def on(
        self, kind: type[C], *, immediate: bool = False
    ) -> Callable[[HandlerFunction[C]], HandlerFunction[C]]:
        """Registers a handler for a command type, in the place of the agent's run.

        If every command of a batch has a handler, the agent itself runs only where a handler calls
        `run.start_agent()`. Immediate handlers are called at once, even during a run.
        """
        if kind not in BUILT_IN:
            self.registry.add(kind)

        def register(function: HandlerFunction[C]) -> HandlerFunction[C]:
            if kind in self._handlers:
                raise ValueError(f"{kind.type_name()!r} has a handler already")
            self._handlers[kind] = Handler(function, immediate=immediate)
            return function

        return register

    def title(self, function: TitleFunction) -> TitleFunction:
        """Registers an async function that makes a title of a thread's state, for `POST .../title`."""
        self._title = function
        return function

    async def make_title(self, state: Json) -> str | None:
        """A title for a thread of this state.

        Raises:
            Refused: `not-found` where the agent makes no titles.
        """
        if self._title is None:
            raise Refused("not-found", "this agent makes no titles")
        return await self._title(state)

    def handler(self, command: Command) -> Handler[Any] | None:
        """The handler for a command, where it has one."""
        return self._handlers.get(type(command))


class FunctionAgent(Agent):
    """An agent made of a function over a run.

    The function is async; or an async generator, whose every yield is the whole new state; or
    plain, and then it runs in a worker thread.
    """

    def __init__(self, function: AgentFunction, *, name: str | None = None, seed: bool | None = None) -> None:
        super().__init__(name or str(getattr(function, "__name__", type(function).__name__)), seed=seed)
        self._function = function
        called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        while isinstance(called, functools.partial):
            called = called.func
        self._generates = inspect.isasyncgenfunction(called)
        self.blocking = not self._generates and not inspect.iscoroutinefunction(called)
        self.__doc__ = function.__doc__

    async def run(self, run: Run) -> None:
        if self.blocking:
            outcome = await anyio.to_thread.run_sync(
                self._function, run, abandon_on_cancel=True, limiter=_worker_limit()
            )
            if inspect.isawaitable(outcome):
                await outcome
        elif self._generates:
            async with aclosing(cast(AsyncGenerator[object, None], self._function(run))) as states:
                async for state in states:
                    run.replace(state)
        else:
            await cast(Awaitable[None], self._function(run))


def _worker_limit() -> anyio.CapacityLimiter:
    """One limit for each event loop."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_THREADS)
        _limiter.set(limiter)
        return limiter


@overload
def agent(function: AgentFunction, /) -> FunctionAgent: ...
@overload
def agent(
    *, name: str | None = None, seed: bool | None = None
) -> Callable[[AgentFunction], FunctionAgent]: ...
def agent(
    function: AgentFunction | None = None, /, *, name: str | None = None, seed: bool | None = None
) -> FunctionAgent | Callable[[AgentFunction], FunctionAgent]:
    """Makes an agent of a function: `@threadwire.agent`, or with options `@threadwire.agent(name=...)`."""
    if function is not None:
        return FunctionAgent(function, name=name, seed=seed)
    return functools.partial(FunctionAgent, name=name, seed=seed)


def as_agent(target: object, name: str | None = None) -> Agent | None:
    """The agent that `target` is or, for a function of one argument, becomes; else None."""
    if isinstance(target, Agent):
        return target
    if inspect.isfunction(target) or inspect.ismethod(target) or isinstance(target, functools.partial):
        try:
            signature = inspect.signature(target)
            signature.bind(None)
        except (TypeError, ValueError):
            return None
        if all(parameter.default is not parameter.empty for parameter in signature.parameters.values()):
            return None  # it may be called with nothing: it makes something
        return FunctionAgent(cast(AgentFunction, target), name=name)
    return None
