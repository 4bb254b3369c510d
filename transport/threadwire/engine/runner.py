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
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.commands import AddToolResult, Command, Resume
from ..core.document import DetachedWrite
from ..core.draft import Draft, LockedDraft
from ..core.errors import AgentError, CommandError, ErrorInfo, Refused, RunEnded
from ..core.frames import RunInfo, RunStatus, Strategy
from ..core.operations import Json, Path
from .agent import Handler
from .beside import Beside, NotingDraft
from .context import Sent, context_of, joined
from .hosting import Hosting, Questions
from .run import TRANSITIONS, Batch, Given, Host, Run, ended
from .store import CommandChange, CommandRecord, Owned, RunRecord
from .undoing import undo

if TYPE_CHECKING:
    from .subscriber import Sink
    from .thread import Thread

logger = logging.getLogger("threadwire")

_CRASHED: Final = ErrorInfo("interrupted-by-crash", "the server went down during the run")
_RECOVERY_S: Final = 10.0
"""How long a run that was told to stop may take to find out how far it was when it was cut."""
_STOPPED: Final = ErrorInfo("server-stopped", "the server was stopped during the run")


class _Active:
    """The run that goes on."""

    __slots__ = ("draft", "ended", "given", "record", "recovering", "rollback", "run", "sent", "stop", "task")

    def __init__(
        self, record: RunRecord, run: Run, draft: Draft, given: list[Given], sent: Sent | None
    ) -> None:
        self.record = record
        self.run = run
        self.draft = draft
        self.given = given
        self.sent = sent
        """What came along with all that it was given."""
        self.task: asyncio.Task[None] | None = None
        self.stop: tuple[RunStatus, ErrorInfo | None] | None = None
        """How the run is to end, once it has been told to stop."""
        self.rollback = False
        """Whether what it wrote is to be undone then."""
        self.recovering = False
        """Whether its agent has yet to find out how far the run was when it was cut."""
        self.ended = False

    @property
    def over(self) -> bool:
        """Whether it has ended, or its task has and its end is on the way."""
        return self.ended or (self.task is not None and self.task.done())


class Runner:
    """One for each loaded thread; its methods are called by it and by endpoints through it."""

    beside = False

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
        self._held: list[tuple[Given, Strategy]] = []
        """Answers to what a run that was cut may ask again, and their strategies."""
        self._cut: RunStatus | None = None
        """The status in which the run that goes on was cut, until it has asked again."""
        self._beside: set[asyncio.Task[None]] = set()
        """Immediate handlers at work."""
        self._writes_beside = 0
        self._written_beside: dict[Path, None] = {}
        """Where handlers beside the run have written, since it began."""
        self._start_scheduled = False
        self._stopping = False
        self._ends: list[asyncio.Future[None]] = []
        self._waits_or_ends: list[asyncio.Future[None]] = []
        self._owned: Owned | None = owned

    @property
    def busy(self) -> bool:
        """Whether there is anything to do or to wait for."""
        return bool(self._active or self._queue or self._settling or self._beside or self._held)

    @property
    def parked(self) -> bool:
        """Whether all there is to do is to wait for clients, in a run that another owner could go on with."""
        return self._can_be_left and not (self._beside or self._held)

    @property
    def _can_be_left(self) -> bool:
        """Whether the run waits, and another owner could go on with it."""
        active = self._active
        waits = active is not None and active.stop is None and bool(self._thread.waiting)
        return waits and self._thread.agent.continues

    @property
    def epoch(self) -> int:
        return self._thread.epoch

    @property
    def base(self) -> int | None:
        """The head when the run began that goes on."""
        return None if self._active is None else self._active.record.base

    @property
    def active_or_queued(self) -> bool:
        """Whether a run is active or about to start; one that waits for clients is not."""
        return bool((self._active and not self.waits_for_clients) or self._queue)

    @property
    def waits_for_clients(self) -> bool:
        """Whether the run waits for clients, or did when it was cut, and has not come to ask again."""
        return bool(self._thread.waiting) or self._cut == "waiting"

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
        arrived: list[tuple[Given, Strategy]] = []
        for record in owned.commands:
            # Before it is settled, should it be: whoever sends it again waits for that.
            self._thread.intake.remember(record.id)
            try:
                command = self._read_again(record, goes_on)
                handled = self._thread.agent.handler(command) is not None
            except CommandError as refusal:
                self._thread.command_changed(
                    CommandChange(id=record.id, status="rejected", error=refusal.info)
                )
                continue
            each = Given.of(record, command)
            if goes_on and record.status == "running" and not handled:
                given.append(each)
                continue
            if record.status != "queued":
                self._thread.command_changed(CommandChange(id=record.id, status="queued"))
            if goes_on and not handled:
                arrived.append((each, record.strategy))
            else:
                self._queue[record.id] = each
        if cut is not None and goes_on:
            self._go_on(cut, given)
        for each, strategy in arrived:
            self.accept(each, strategy)  # as it came while the run went on
        self._advance()

    def _read_again(self, record: CommandRecord, goes_on: bool) -> Command:
        """The command of a record. Raises CommandError where it is not to be tried again."""
        command = self._thread.agent.registry.read(msgspec.json.decode(record.body))
        handled = self._thread.agent.handler(command) is not None
        if goes_on and record.status == "running" and not handled:
            return command  # as often as its run is
        if record.starts >= self._settings.max_starts:
            raise CommandError("gave-up", f"the server went down {record.starts} times during this command")
        if not goes_on:
            # Nothing is asked any more that it could answer.
            self._thread.waiting.take(command, handled=handled)
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
        # What waited can't have brought the server down.
        more = 0 if cut.status == "waiting" else 1
        record = msgspec.structs.replace(cut, status="running", starts=cut.starts + more)
        self._thread.run_changed(record)
        for each in given:
            each.starts += more - 1
            self._thread.command_changed(
                CommandChange(id=each.id, status="running", starts=each.starts + 1), before=True
            )
            if isinstance(each.command, AddToolResult):
                self._thread.waiting.note_answered(each.command.tool_call_id)
        self._cut = cut.status
        active = self._make_active(record, given, Sent.decode(cut.context))
        active.recovering = True
        self._spawn(active, self._execute_again(active))

    def _make_active(self, record: RunRecord, given: list[Given], sent: Sent | None) -> _Active:
        draft = self._make_draft()
        # `given` grows with what comes into the run; its batch doesn't.
        run = self._make_run(record.id, draft, tuple(given), host=self, sent=sent)
        active = self._active = _Active(record, run, draft, given, sent)
        return active

    # the queue

    def accept(self, given: Given, strategy: Strategy) -> None:
        """Takes a durable command into the queue, or to where its strategy sends it."""
        handler = self._thread.agent.handler(given.command)
        if self._cut is not None and handler is None and isinstance(given.command, Resume | AddToolResult):
            self._held.append((given, strategy))
            return
        try:
            effect = self._thread.waiting.take(given.command, handled=handler is not None)
        except Exception as refusal:  # what a host checks answers by is the agent's code
            self.reject(given, self.error_info(refusal))
            return
        if effect == "done":
            self.apply(given)
            return
        if effect == "answer":
            self._give(given)
            self._thread.waiting.deliver(given)
            return
        if handler is not None and (handler.immediate or self.waits_for_clients):
            self._start_beside(given)
            return
        active = self._active
        if self.waits_for_clients and active is not None:
            # A waiting run is not active: what comes starts over.
            self._stop(active, "cancelled", None)
            strategy = "enqueue"
        steers = strategy == "steer" and handler is None
        if steers and self._thread.agent.continues and isinstance(given.command, AddToolResult):
            steers = False  # a host asks for results
        if steers and active is not None and not active.ended and active.stop is None:
            self._give(given)
            active.run.inbox.deliver(given)
            return
        self._queue[given.id] = given
        if strategy in ("interrupt", "rollback") and active is not None:
            self._stop(active, "cancelled", None, rollback=strategy == "rollback")
        self._advance()

    def _give(self, given: Given) -> None:
        """A command goes into the run that goes on."""
        assert self._active is not None
        given.steered = True
        self._active.given.append(given)
        self._active.sent = joined([self._active.sent, given.sent])
        self._thread.absence.changed()
        self._thread.command_changed(
            CommandChange(id=given.id, status="running", starts=given.starts + 1), before=True
        )

    def _replay_held(self) -> None:
        """The run has asked, or has ended: now it can be told what the answers held back answer."""
        self._cut = None
        held, self._held = self._held, []
        for given, strategy in held:
            self.accept(given, strategy)

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
        sent = joined([each.sent for each in given])
        record = RunRecord(
            id=self._settings.new_id(),
            status="running",
            started_at=self._settings.clock(),
            base=self._thread.head,
            context=None if sent is None else sent.encode(),
        )
        self._thread.run_changed(record)
        if not self._thread.document.dirty:  # else what was written before comes after the base
            self._written_beside.clear()
        for each in given:
            self._thread.command_changed(
                CommandChange(id=each.id, status="running", starts=each.starts + 1), before=True
            )
        active = self._make_active(record, given, sent)
        self._spawn(active, self._execute(active, active.run.commands.given))

    def _spawn(self, active: _Active, work: Coroutine[Any, Any, None]) -> None:
        active.task = self._thread.spawn(work)
        active.task.add_done_callback(lambda task: self._finished(active, task))
        self._thread.absence.changed()

    @property
    def patience_s(self) -> float | None:
        """How long the run that is at work may go on with nobody there to see it; None: for ever."""
        active = self._active
        if active is None or active.ended or active.stop or active.record.status != "running":
            return None
        return None if active.sent is None else active.sent.absence_s

    def _make_draft(self) -> Draft:
        return (LockedDraft if self._thread.agent.blocking else Draft)(self._thread.document)

    def _make_run(
        self, id: str, draft: Draft, given: Sequence[Given], *, host: Host, sent: Sent | None
    ) -> Run:
        return Run(
            id=id,
            thread=self._thread.id,
            agent=self._thread.agent_name,
            draft=draft,
            host=host,
            given=given,
            context=context_of(sent),
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
            if self._active is None or self._active.ended:
                return  # the agent goes on after its end, and nothing that it does now counts
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
        return Hosting(draft, self, run)

    def recovered(self) -> None:
        active = self._active
        if active is not None and active.recovering:
            active.recovering = False
            if active.stop is not None and active.task is not None:
                active.task.cancel()

    async def ask(self, questions: Questions) -> Sequence[Given]:
        self.recovered()
        for given in [given for given in self._queue.values() if self._answers(given, questions)]:
            del self._queue[given.id]
            self._held.append((given, "enqueue"))
        if self._cut is not None or self._held:
            # Once the questions stand, which is before `ask` first waits.
            self._loop.call_soon(self._replay_held)
        return await self._thread.waiting.ask(questions, self._origin)

    def _answers(self, given: Given, questions: Questions) -> bool:
        """Whether a command that came before these were asked is a result of a call among them."""
        command = given.command
        if not isinstance(command, AddToolResult) or self._thread.agent.handler(command) is not None:
            return False
        return command.tool_call_id in questions.calls

    @property
    def rolls_back(self) -> bool:
        return self._active is not None and self._active.rollback

    def client_tools(self) -> frozenset[str]:
        return frozenset(tool for subscriber in self._thread.executors for tool in subscriber.tools)

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
        if self._can_be_left:
            self._wake(self._waits_or_ends)
        self._thread.absence.changed()

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
        run = self._make_run(id, draft, (), host=Beside(self), sent=given.sent)
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
            queue = [*self._queue.values(), *(given for given, _ in self._held)]
            self._queue.clear()
            self._held.clear()
            for given in queue:
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

    def stop(self) -> None:
        """Stops the run, if there is one, as cancelled; the queue stays."""
        if self._active is not None:
            self._stop(self._active, "cancelled", None)

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
        goes_on = active is not None and active.stop is None and not active.over
        if active is not None and goes_on and self._thread.agent.continues:
            await self._leave(active)
        elif active is not None:
            self._stop(active, "failed", _STOPPED)
        await self.ended()
        if self._beside:
            await asyncio.wait(self._beside)

    async def _leave(self, active: _Active) -> None:
        """Stops a run where it is; that the server was stopped in order doesn't count as a crash."""
        active.ended = True
        self._cut = active.record.status
        if active.record.status == "running":
            active.record = msgspec.structs.replace(active.record, starts=active.record.starts - 1)
            self._thread.run_changed(active.record, tell=False)
            for given in active.given:
                if not given.settled:
                    self._thread.command_changed(
                        CommandChange(id=given.id, status="running", starts=given.starts), before=True
                    )
        assert active.task is not None
        active.task.cancel()
        await asyncio.wait([active.task], timeout=self._settings.cancel_grace_s)
        active.draft.revoke()
        self._active = None

    async def ended(self, *, or_waits: bool = False) -> None:
        """Returns when no run goes on and its end is committed.

        With `or_waits` also when one waits for clients that another owner could go on with.
        """
        goes_on = self._active is not None or self._settling is not None
        if goes_on and not (or_waits and self._can_be_left):
            future: asyncio.Future[None] = self._loop.create_future()
            (self._waits_or_ends if or_waits else self._ends).append(future)
            await self._thread.wait(future)

    def _wake(self, futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)
        futures.clear()

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
        self._thread.absence.changed()

    def _stop(
        self, active: _Active, status: RunStatus, error: ErrorInfo | None, *, rollback: bool = False
    ) -> None:
        if active.over:
            return
        if active.stop is not None:
            # A run that fails keeps what it wrote.
            active.rollback = active.rollback or (rollback and active.stop[0] == "cancelled")
            return
        assert active.task is not None
        active.rollback = rollback
        active.stop = (status, error)
        self._thread.absence.changed()
        active.run.mark_cancelled()
        grace_s = self._settings.cancel_grace_s
        if active.recovering:
            grace_s += _RECOVERY_S
        else:
            active.task.cancel()
        self._loop.call_later(grace_s, self._overdue, active)

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
        self._thread.absence.changed()
        active.draft.revoke()
        if active.rollback:
            self._thread.spawn(self._end_undone(active, status, error))
        else:
            self._conclude(active, status, error)

    async def _end_undone(self, active: _Active, status: RunStatus, error: ErrorInfo | None) -> None:
        if await undo(self._thread, active.record, self._written_beside):
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
        took_any = any(given.taken_at is not None or given.settled for given in active.given)
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
            if isinstance(given.command, Resume) and self._thread.agent.handler(given.command) is None:
                # It came while the run asked, but the run has ended without it.
                self.reject(given, ErrorInfo("unknown-interrupt", "the run ended without this answer"))
                continue
            given.settled = True  # here: a task that goes on in spite of all has no part in it any more
            self._thread.command_changed(CommandChange(id=given.id, status="queued", starts=given.starts))
            self._queue[given.id] = given.again()

    def run_committed(self, record: RunRecord) -> None:
        """The thread has made this status of the run durable and told it."""
        if not ended(record.status) or record.id != self._settling:
            return
        self._settling = None
        self._active = None
        self._wake(self._ends)
        self._wake(self._waits_or_ends)
        self._thread.touch()
        self._replay_held()
        self._advance()

    def _ending(self, record: RunRecord, status: RunStatus, error: ErrorInfo | None) -> RunRecord:
        assert status in TRANSITIONS[record.status]
        return msgspec.structs.replace(
            record, status=status, error=error, ended_at=self._settings.clock(), context=None
        )

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
