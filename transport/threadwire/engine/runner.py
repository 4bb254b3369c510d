"""A thread's queue of commands and the run that works on them: started, cancelled, ended, recovered.

A run is an asyncio task. It is cancelled once; for a short grace its draft still takes writes, so
that it can clean up; then the draft is revoked and the run has ended, whatever its task does.

Spec: PROTOCOL.md §7.3, §7.4, §8.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.commands import AddToolResult, Command, Resume
from ..core.document import DetachedWrite
from ..core.draft import Draft, LockedDraft
from ..core.errors import AgentError, CommandError, ErrorInfo, Refused, RunEnded, StoreError
from ..core.frames import RunInfo, RunStatus, Strategy
from ..core.operations import Json, Path
from .agent import Handler
from .beside import Beside, NotingDraft, keep_written
from .hosting import Hosting, Questions
from .notes import Notes
from .run import TRANSITIONS, Batch, Given, Host, Run, ended
from .store import CommandChange, CommandRecord, Owned, RunRecord

if TYPE_CHECKING:
    from .subscriber import Sink
    from .thread import Thread

logger = logging.getLogger("threadwire")

_CRASHED: Final = ErrorInfo("interrupted-by-crash", "the server went down during the run")
_STOPPED: Final = ErrorInfo("server-stopped", "the server was stopped during the run")


class _Active:
    """The run that goes on."""

    __slots__ = ("draft", "ended", "given", "record", "rollback", "run", "stop", "task")

    def __init__(self, record: RunRecord, run: Run, draft: Draft, given: list[Given]) -> None:
        self.record = record
        self.run = run
        self.draft = draft
        self.given = given
        self.task: asyncio.Task[None] | None = None
        self.stop: tuple[RunStatus, ErrorInfo | None] | None = None
        """How the run is to end, once it has been told to stop."""
        self.rollback = False
        """Whether what it wrote is to be undone then."""
        self.ended = False


class Runner:
    """One for each loaded thread; its methods are called by it and by endpoints through it."""

    def __init__(self, thread: Thread, owned: Owned) -> None:
        self._thread = thread
        self._settings = thread.settings
        self._loop = asyncio.get_running_loop()
        self._queue: dict[str, Given] = {}
        self._active: _Active | None = None
        self._unapplied: list[Given] = []
        """Taken up by the run, and not written for yet."""
        self._settling: str | None = None
        """The run whose end is being committed; the next starts after that."""
        self._held: list[Given] = []
        """Answers to what a run that was cut may ask again."""
        self._recovering = False
        """Whether the run that goes on was cut, and has not asked anything since."""
        self._beside: set[asyncio.Task[None]] = set()
        """Immediate handlers at work."""
        self._writes_beside = 0
        self._written_beside: dict[Path, None] = {}
        """Where handlers beside the run have written, since it began."""
        self._start_scheduled = False
        self._stopping = False
        self._ends: list[asyncio.Future[None]] = []
        self._owned: Owned | None = owned

    @property
    def busy(self) -> bool:
        """Whether there is anything to do or to wait for."""
        return bool(self._active or self._queue or self._settling or self._beside or self._held)

    @property
    def parked(self) -> bool:
        """Whether all there is to do is to wait for clients, in a run that another owner could go on with."""
        return (
            self._thread.agent.continues
            and self._active is not None
            and self._active.stop is None
            and bool(self._thread.waiting)
            and not (self._queue or self._settling or self._beside or self._held)
        )

    @property
    def base(self) -> int | None:
        """The head when the run began that goes on."""
        return None if self._active is None else self._active.record.base

    @property
    def active_or_queued(self) -> bool:
        """Whether a run is active or about to start; one that waits for clients is not."""
        return bool((self._active and not self._thread.waiting) or self._queue)

    def recover(self) -> None:
        """Takes up what an earlier owner left: ends the run that was cut, queues its commands again."""
        owned, self._owned = self._owned, None
        assert owned is not None
        cut = owned.run if owned.run is not None and not ended(owned.run.status) else None
        goes_on = cut is not None and self._goes_on(cut)
        if cut is not None and not goes_on:
            self._settling = cut.id
            self._thread.waiting.forget_earlier()
            self._thread.run_changed(self._ending(cut, "failed", self._cut_error(cut)))
        given = []
        for record in owned.commands:
            # Before it is settled, should it be: whoever sends it again waits for that.
            self._thread.intake.remember(record.id)
            try:
                command = self._read_again(record, goes_on)
            except CommandError as refusal:
                self._thread.command_changed(
                    CommandChange(id=record.id, status="rejected", error=refusal.info)
                )
                continue
            each = Given(record.id, command, order=record.order, starts=record.starts)
            handled = self._thread.agent.handler(command) is not None
            if goes_on and record.status == "running" and not handled:
                given.append(each)
                continue
            if record.status != "queued":
                self._thread.command_changed(CommandChange(id=record.id, status="queued"))
            if goes_on and not handled and isinstance(command, Resume | AddToolResult):
                self._held.append(each)
            else:
                self._queue[record.id] = each
        if cut is not None and goes_on:
            self._go_on(cut, given)
        self._advance()

    def _read_again(self, record: CommandRecord, goes_on: bool) -> Command:
        """The command of a record. Raises CommandError where it is not to be tried again."""
        if record.starts >= self._settings.max_starts:
            raise CommandError("gave-up", f"the server went down {record.starts} times during this command")
        command = self._thread.agent.registry.read(msgspec.json.decode(record.body))
        if not goes_on:
            # Nothing is asked any more that it could answer.
            self._thread.waiting.take(command, handled=self._thread.agent.handler(command) is not None)
        return command

    def _goes_on(self, cut: RunRecord) -> bool:
        """Whether the agent can go on with it, and should: not if it brings the server down each time."""
        waited = cut.status == "waiting"
        return self._thread.agent.continues and (waited or cut.starts < self._settings.max_starts)

    def _cut_error(self, cut: RunRecord) -> ErrorInfo:
        if self._thread.agent.continues:
            return ErrorInfo("gave-up", f"the server went down {cut.starts} times during this run")
        return _CRASHED

    def _go_on(self, cut: RunRecord, given: list[Given]) -> None:
        starts = cut.starts if cut.status == "waiting" else cut.starts + 1
        record = msgspec.structs.replace(cut, status="running", starts=starts)
        self._thread.run_changed(record)
        draft = self._make_draft()
        active = _Active(record, self._make_run(record.id, draft, given, host=self), draft, given)
        self._active = active
        self._recovering = True
        self._spawn(active, self._execute_again(active))

    # the queue

    def accept(self, given: Given, strategy: Strategy) -> None:
        """Takes a durable command into the queue, or to where its strategy sends it."""
        handler = self._thread.agent.handler(given.command)
        if self._recovering and handler is None and isinstance(given.command, Resume | AddToolResult):
            self._held.append(given)
            return
        try:
            effect = self._thread.waiting.take(given.command, handled=handler is not None)
        except CommandError as refusal:
            self.reject(given, refusal.info)
            return
        if effect == "done":
            self.apply(given)
            return
        if effect == "answer":
            self._give(given)
            self._thread.waiting.deliver(given)
            return
        waiting = bool(self._thread.waiting)
        if handler is not None and (handler.immediate or waiting):
            self._start_beside(given)
            return
        active = self._active
        if waiting and active is not None:
            # A waiting run is not active: what comes starts over.
            self._stop(active, "cancelled", None)
            strategy = "enqueue"
        steers = strategy == "steer" and handler is None
        if steers and active is not None and not active.ended and active.stop is None:
            self._give(given)
            active.run.inbox.deliver(given)
            return
        self._queue[given.id] = given
        if strategy in ("interrupt", "rollback") and active is not None:
            active.rollback = active.rollback or strategy == "rollback"
            self._stop(active, "cancelled", None)
        self._advance()

    def _give(self, given: Given) -> None:
        """A command goes into the run that goes on."""
        assert self._active is not None
        given.steered = True
        self._active.given.append(given)
        self._thread.command_changed(
            CommandChange(id=given.id, status="running", starts=given.starts + 1), before=True
        )

    def _replay_held(self) -> None:
        """The run has asked, or has ended: now it can be told what the answers held back answer."""
        self._recovering = False
        held, self._held = self._held, []
        for given in held:
            self.accept(given, "enqueue")

    def _advance(self) -> None:
        if self._queue and not self._start_scheduled:
            # Commands that become durable in this tick start one run together.
            self._start_scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_scheduled = False
        if self._active or self._settling or self._stopping or not self._queue or self._thread.closed:
            return
        given = sorted(self._queue.values(), key=lambda each: each.order)
        self._queue.clear()
        record = RunRecord(
            id=self._settings.new_id(),
            status="running",
            started_at=self._settings.clock(),
            base=self._thread.head,
        )
        self._thread.run_changed(record)
        self._written_beside.clear()
        for each in given:
            self._thread.command_changed(
                CommandChange(id=each.id, status="running", starts=each.starts + 1), before=True
            )
        draft = self._make_draft()
        active = _Active(record, self._make_run(record.id, draft, given, host=self), draft, given)
        self._active = active
        self._spawn(active, self._execute(active, tuple(given)))

    def _spawn(self, active: _Active, work: Coroutine[Any, Any, None]) -> None:
        active.task = self._thread.spawn(work)
        active.task.add_done_callback(lambda task: self._finished(active, task))

    def _make_draft(self) -> Draft:
        return (LockedDraft if self._thread.agent.blocking else Draft)(self._thread.document)

    def _make_run(self, id: str, draft: Draft, given: Sequence[Given], *, host: Host) -> Run:
        return Run(
            id=id,
            thread=self._thread.id,
            agent=self._thread.agent_name,
            draft=draft,
            host=host,
            given=given,
            context=MappingProxyType({}),
        )

    async def _execute(self, active: _Active, batch: Sequence[Given]) -> None:
        # `active.given` may be longer by now: what was steered into the run comes by its inbox.
        run, agent = active.run, self._thread.agent
        left = []
        for given in batch:
            handler = agent.handler(given.command)
            if handler is None:
                left.append(given)
                continue
            given.taken_at = self._writes
            await self._handle(handler, run, given)
            if active.ended:
                return  # the handler did not care that it was cancelled
        if left or run.agent_wanted:
            run.commands = Batch(left, self.take)
            await self._contained(agent.run(run))

    async def _execute_again(self, active: _Active) -> None:
        await self._contained(self._thread.agent.recover(active.run))

    async def _contained(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (SystemExit, KeyboardInterrupt) as error:
            # It would end the server.
            raise RuntimeError(f"the agent raised {error!r}") from error

    async def _handle(self, handler: Handler[Any], run: Run, given: Given) -> None:
        try:
            await handler(run, given.command)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self.reject(given, self.error_info(error))
        else:
            self.apply(given)

    # what runs call

    def new_id(self) -> str:
        return self._settings.new_id()

    async def flush(self) -> None:
        await self._thread.flush()

    def take(self, given: Given) -> None:
        """The run takes a command up: the one before is applied, whether it was written for or not."""
        # An agent in a worker thread takes and writes while the loop may be cutting.
        with self._thread.document.lock:
            if given.taken_at is not None or given.settled:
                return
            given.taken_at = self._writes
            self._unapplied.append(given)
        if self._thread.agent.blocking:
            self._loop.call_soon_threadsafe(self._settle_earlier)
        else:
            self._settle_earlier()

    def _settle_earlier(self) -> None:
        while len(self._unapplied) > 1:
            self.apply(self._unapplied.pop(0))

    def wrote(self) -> None:
        """A cut is being made: what was taken up before a write is applied by it."""
        if self._unapplied:
            unapplied, self._unapplied = self._unapplied, []
            for given in unapplied:
                if self._written_for(given) or given is not unapplied[-1]:
                    self.apply(given)
                else:
                    self._unapplied.append(given)

    @property
    def _writes(self) -> int:
        """The document's count of writes, but for those that immediate handlers made."""
        return self._thread.document.writes - self._writes_beside

    def _written_for(self, given: Given) -> bool:
        """Whether the run has written since it took the command up."""
        return given.taken_at is not None and self._writes > given.taken_at

    def apply(self, given: Given) -> None:
        """The command has had its effect."""
        if not given.settled:
            given.settled = True
            self._thread.command_changed(CommandChange(id=given.id, status="applied"))

    def reject(self, given: Given, error: ErrorInfo) -> None:
        """The command will have no effect."""
        if not given.settled:
            given.settled = True
            self._thread.command_changed(CommandChange(id=given.id, status="rejected", error=error))

    async def interrupt(self, value: object) -> Json:
        return await self._thread.waiting.interrupt(self.new_id(), value)

    async def call_client_tool(self, name: str, args: object) -> AddToolResult:
        return await self._thread.waiting.call_tool(self.new_id(), name, args, self._origin)

    @property
    def _origin(self) -> Sink | None:
        """The connection whose command started the run."""
        active = self._active
        return active.given[0].origin if active is not None and active.given else None

    def hosting(self, run: Run, draft: Draft) -> Hosting:
        return Hosting(draft, self, run.commands, run.inbox)

    async def ask(self, questions: Questions) -> Sequence[Given]:
        if self._recovering:
            # Once the questions stand, which is before `ask` first waits.
            self._loop.call_soon(self._replay_held)
        return await self._thread.waiting.ask(questions, self._origin)

    async def stored_notes(self) -> dict[str, bytes]:
        return await self._thread.stored_notes()

    def note(self, name: str, data: bytes | None) -> None:
        self._thread.note_changed(name, data)

    def waits(self, waits: bool) -> None:
        """The run begins or ends to wait for clients."""
        active = self._active
        status: RunStatus = "waiting" if waits else "running"
        if active is not None and not active.ended and active.record.status != status:
            active.record = msgspec.structs.replace(active.record, status=status)
            if active.stop is None:
                self._thread.run_changed(active.record)

    # handlers beside the run

    def _start_beside(self, given: Given) -> None:
        self._thread.command_changed(
            CommandChange(id=given.id, status="running", starts=given.starts + 1), before=True
        )
        task = self._thread.spawn(self._beside_run(given))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _beside_run(self, given: Given) -> None:
        draft = NotingDraft(self._thread.document, self._written_beside)
        active = self._active
        id = active.record.id if active else self._settings.new_id()
        run = self._make_run(id, draft, (), host=Beside(self))
        handler = self._thread.agent.handler(given.command)
        assert handler is not None
        try:
            await self._counted(self._handle(handler, run, given))
        except (asyncio.CancelledError, GeneratorExit, BaseExceptionGroup) as error:
            if not self._thread.closed:  # else it is taken up again by the next owner
                self.reject(given, self.error_info(error))
        finally:
            draft.revoke()

    @types.coroutine
    def _counted(self, coroutine: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Awaits it, and counts the writes made in its steps: they are not the run's."""
        document = self._thread.document
        step: Callable[[Any], Any] = coroutine.send
        answer: Any = None
        while True:
            with document.lock:
                before = document.writes
                try:
                    waits_for = step(answer)
                except StopIteration:
                    return
                finally:
                    self._writes_beside += document.writes - before
            try:
                step, answer = coroutine.send, (yield waits_for)
            except BaseException as error:
                step, answer = coroutine.throw, error

    # stopping

    async def cancel(self, run: str | None) -> RunInfo | None:
        """Stops the run of that id; without one, the current run and all that is queued.

        Returns the run as it ended or, where there was nothing to stop, as it is.
        """
        await self._thread.be_current()
        if run is None:
            queue, self._queue = self._queue, {}
            for given in queue.values():
                self._thread.command_changed(CommandChange(id=given.id, status="cancelled"))
        active = self._active
        current = active.record.id if active is not None else self._settling
        if current is not None and run in (None, current):
            if active is not None:
                self._stop(active, "cancelled", None)
            await self.ended()
        elif run is None and queue:
            await self._thread.flush()
        return self._thread.run_info

    def fail(self, error: ErrorInfo) -> None:
        """Stops the run as failed."""
        if self._active is not None:
            self._stop(self._active, "failed", error)
        else:
            logger.warning("thread %s: beside no run: %s", self._thread.id, error.message)

    def hold(self) -> None:
        """Starts nothing more."""
        self._stopping = True

    async def shut_down(self) -> None:
        """The server stops: leaves the run to the next start, or ends it as failed where it can't go on.

        Its commands stay for the next start in any case.
        """
        self._stopping = True
        active = self._active
        if active is not None and active.stop is None and self._thread.agent.continues:
            await self._leave(active)
        elif active is not None:
            self._stop(active, "failed", _STOPPED)
        await self.ended()
        if self._beside:
            await asyncio.wait(self._beside)

    async def _leave(self, active: _Active) -> None:
        """Stops a run where it is; that the server was stopped in order doesn't count as a crash."""
        active.ended = True
        if active.record.status == "running":
            active.record = msgspec.structs.replace(active.record, starts=0)
            self._thread.run_changed(active.record, tell=False)
        assert active.task is not None
        active.task.cancel()
        await asyncio.wait([active.task], timeout=self._settings.cancel_grace_s)
        active.draft.revoke()
        self._active = None

    async def ended(self) -> None:
        """Returns when no run goes on and its end is committed."""
        if self._active is not None or self._settling is not None:
            future: asyncio.Future[None] = self._loop.create_future()
            self._ends.append(future)
            await self._thread.wait(future)

    def abandon(self) -> None:
        """The thread is lost: stops the task and writes nothing more."""
        active, self._active = self._active, None
        self._settling = None
        if active is not None:
            active.ended = True
            active.draft.revoke()
            if active.task is not None:
                active.task.cancel()
        for task in self._beside:
            task.cancel()

    def _stop(self, active: _Active, status: RunStatus, error: ErrorInfo | None) -> None:
        if active.ended or active.stop is not None:
            return
        assert active.task is not None
        if active.task.done():
            return  # its end is on the way
        active.stop = (status, error)
        active.run.mark_cancelled()
        active.task.cancel()
        self._loop.call_later(self._settings.cancel_grace_s, self._overdue, active)

    def _overdue(self, active: _Active) -> None:
        if not active.ended:
            logger.warning(
                "thread %s: run %s goes on after it was cancelled; it can't write any longer",
                self._thread.id,
                active.record.id,
            )
            assert active.stop is not None
            self._end(active, *active.stop)

    # ending

    def _finished(self, active: _Active, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and (active.ended or active.stop) and not isinstance(error, RunEnded):
            logger.warning(
                "thread %s: run %s failed when it was stopped",
                self._thread.id,
                active.record.id,
                exc_info=error,
            )
        if active.ended:
            return
        if active.stop is not None:
            self._end(active, *active.stop)
        elif error is not None:
            self._end(active, "failed", self.error_info(error))
        elif task.cancelled():
            self._end(active, "failed", ErrorInfo("agent-failed", "the agent cancelled itself"))
        else:
            self._end(active, "completed", None)

    def _end(self, active: _Active, status: RunStatus, error: ErrorInfo | None) -> None:
        self._thread.waiting.drop()
        active.ended = True
        active.draft.revoke()
        if active.rollback:
            self._thread.spawn(self._end_undone(active, status, error))
        else:
            self._conclude(active, status, error)

    async def _end_undone(self, active: _Active, status: RunStatus, error: ErrorInfo | None) -> None:
        """Undoes what the run wrote, by one update, and ends it."""
        thread = self._thread
        try:
            old = await thread.state_at(active.record.base)
            notes = Notes(await thread.stored_notes(), check=lambda: None, changed=self.note)
        except StoreError as failure:
            thread.lose(failure)
            return
        except LookupError:
            logger.warning("thread %s: too much was written since the run began to undo it", thread.id)
        else:
            if thread.closed:
                return
            with suppress(DetachedWrite):  # it is being undone
                thread.document.check_loans(last=True)
            thread.document.replace(keep_written(old, thread.document.root, self._written_beside))
            thread.agent.rolled_back(notes)
        self._conclude(active, status, error)

    def _conclude(self, active: _Active, status: RunStatus, error: ErrorInfo | None) -> None:
        try:
            self._thread.document.check_loans(last=True)
        except DetachedWrite as detached:
            if status == "completed":
                status, error = "failed", ErrorInfo("detached-write", str(detached), detached.path)
        self._settle(active, status, error)
        self._unapplied.clear()
        self._settling = active.record.id
        self._thread.run_changed(self._ending(active.record, status, error))

    def _settle(self, active: _Active, status: RunStatus, error: ErrorInfo | None) -> None:
        """Settles what the run was given, or gives it back to the queue."""
        back: list[Given] = []
        left = [given for given in active.given if not given.settled]
        took_any = any(given.taken_at is not None for given in active.given)
        for given in left:
            taken = given.taken_at is not None
            if error is _STOPPED:
                if self._written_for(given):
                    self.apply(given)
                else:
                    back.append(given)
            elif status == "completed":
                if given.steered and not taken:
                    back.append(given)
                else:
                    self.apply(given)
            elif status == "cancelled":
                if taken:
                    self.apply(given)
                else:
                    given.settled = True
                    self._thread.command_changed(CommandChange(id=given.id, status="cancelled"))
            elif self._written_for(given):
                self.apply(given)
            elif taken or (not took_any and given is left[0]):
                # A run that fails always settles one command, or it would start for ever.
                assert error is not None
                self.reject(given, error)
            else:
                back.append(given)
        for given in back:
            given.settled = True  # here: a task that goes on in spite of all has no part in it any more
            self._thread.command_changed(CommandChange(id=given.id, status="queued", starts=given.starts))
            self._queue[given.id] = given.again()

    def run_committed(self, record: RunRecord) -> None:
        """The thread has made this status of the run durable and told it."""
        if not ended(record.status) or record.id != self._settling:
            return
        self._settling = None
        self._active = None
        ends, self._ends = self._ends, []
        for future in ends:
            if not future.done():
                future.set_result(None)
        self._thread.touch()
        self._replay_held()
        self._advance()

    def _ending(self, record: RunRecord, status: RunStatus, error: ErrorInfo | None) -> RunRecord:
        assert status in TRANSITIONS[record.status]
        return msgspec.structs.replace(record, status=status, error=error, ended_at=self._settings.clock())

    def error_info(self, error: BaseException) -> ErrorInfo:
        """What clients see of an agent's exception; the log has the rest."""
        if isinstance(error, AgentError | Refused):
            return error.info
        reference = self._settings.new_id()[:8]
        logger.error("thread %s: agent failed [%s]", self._thread.id, reference, exc_info=error)
        if self._settings.show_errors:
            text = f"{type(error).__name__}: {error}"
            return ErrorInfo("agent-failed", f"{text[:1000]} [{reference}]")
        return ErrorInfo("agent-failed", f"the agent failed; the server's log has more under {reference}")
