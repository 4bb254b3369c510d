"""Scripts of frames against a ClientSession: what it sends, and what it makes of what it hears."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from threadwire.core.canonical import state_hash
from threadwire.core.client_session import (
    Changed,
    ClientSession,
    Event,
    Opening,
    Problem,
    RetryLater,
)
from threadwire.core.errors import CommandError, ConnectionClosed, ErrorInfo, Refused
from threadwire.core.frames import (
    Cancel,
    ClientFrame,
    Close,
    CommandState,
    Error,
    Goodbye,
    Heartbeat,
    Hello,
    Limits,
    Open,
    Pong,
    Position,
    Run,
    RunInfo,
    RunStatus,
    SendCommand,
    ServerFrame,
    Snapshot,
    Tool,
    Update,
    Welcome,
)
from threadwire.core.operations import AppendText, Json, Operation, Set

BODY = {"type": "add-message"}


def welcome(protocol: int = 1) -> Welcome:
    return Welcome(protocol=protocol, server="s", connection="c", agents=("a",), limits=Limits())


def snapshot(
    seq: int, state: Json, *, epoch: int = 7, run: RunInfo | None = None, hash: str | None = None
) -> Snapshot:
    return Snapshot(
        thread="t", epoch=epoch, seq=seq, state=state, run=run, hash=msgspec.UNSET if hash is None else hash
    )


def update(
    seq: int, *ops: Operation, epoch: int = 7, from_: int | None = None, hash: str | None = None
) -> Update:
    return Update(thread="t", epoch=epoch, seq=seq, from_=from_, ops=list(ops), hash=hash)


def run(status: RunStatus | None, id: str = "r") -> Run:
    return Run(thread="t", run=None if status is None else RunInfo(id=id, status=status))


def put(key: str, value: Json) -> Set:
    return Set((key,), value)


def sent(session: ClientSession) -> list[ClientFrame]:
    frames: list[ClientFrame] = []
    while (frame := session.next_frame()) is not None:
        frames.append(frame)
    return frames


def hear(session: ClientSession, *frames: ServerFrame) -> list[Event]:
    return [event for frame in frames for event in session.receive(frame)]


def reconnect(session: ClientSession) -> list[ClientFrame]:
    session.disconnected()
    session.connected()
    return sent(session)


def opened(*frames: ServerFrame, **options: Any) -> tuple[ClientSession, Opening]:
    """A session that follows the thread `t`, whose `open` was answered by `frames`."""
    session = ClientSession()
    session.connected()
    opening = session.open("t", **options)
    sent(session)
    hear(session, *(frames or (snapshot(0, {}), run(None))))
    return session, opening


# connecting


def test_a_session_without_a_token_says_nothing_first() -> None:
    session = ClientSession()
    session.connected()
    assert sent(session) == []


@pytest.mark.parametrize(
    ("session", "hello"),
    [
        (ClientSession(token="secret"), Hello(token="secret")),
        (ClientSession(hash=True), Hello(hash=True)),
        (ClientSession(client="bot"), Hello(client="bot")),
    ],
)
def test_hello_comes_first_on_every_connection(session: ClientSession, hello: Hello) -> None:
    session.open("t")
    session.connected()
    assert sent(session) == [hello, Open(thread="t")]
    assert reconnect(session) == [hello, Open(thread="t")]


def test_nothing_is_sent_while_disconnected() -> None:
    session = ClientSession()
    session.open("t")
    session.send("t", "1", BODY)
    assert sent(session) == []


def test_reconnect_sends_threads_from_where_they_are_then_unsettled_commands_then_cancels() -> None:
    session, opening = opened(snapshot(3, {}), run("running"), agent="a", tools=["search"], hash=True)
    session.send("t", "1", BODY, strategy="interrupt", agent="a")
    session.send("t", "2", BODY, agent="a")
    session.send("t", "3", BODY, agent="a")
    session.cancel(opening.thread, "r")
    hear(
        session,
        CommandState(thread="t", id="1", status="queued"),
        CommandState(thread="t", id="2", status="applied", seq=4),
    )
    assert reconnect(session) == [
        Open(thread="t", agent="a", since={"epoch": 7, "seq": 3}, tools=("search",), hash=True),
        SendCommand(thread="t", id="1", command=BODY, strategy="interrupt", agent="a"),
        SendCommand(thread="t", id="3", command=BODY, agent="a"),
        Cancel(thread="t", run="r"),
    ]


def test_a_seed_is_sent_until_the_thread_is_there() -> None:
    session = ClientSession()
    session.open("t", state={"n": 1})
    session.connected()
    assert sent(session) == [Open(thread="t", state={"n": 1})]
    assert reconnect(session) == [Open(thread="t", state={"n": 1})]
    hear(session, snapshot(1, {"n": 1}))
    assert reconnect(session) == [Open(thread="t", since={"epoch": 7, "seq": 1})]


def test_welcome_is_kept_across_connections() -> None:
    session = ClientSession()
    session.connected()
    hear(session, welcome(), Pong())
    reconnect(session)
    assert session.welcome == welcome()


def test_another_version_of_the_protocol_ends_the_client() -> None:
    with pytest.raises(ConnectionClosed, match="version 2") as caught:
        ClientSession().receive(welcome(protocol=2))
    assert not caught.value.reconnect


def test_goodbye_counts_for_its_own_connection() -> None:
    session = ClientSession()
    session.connected()
    hear(session, Goodbye(reason="drain", reconnect=True))
    assert session.goodbye == Goodbye(reason="drain", reconnect=True)
    reconnect(session)
    assert session.goodbye is None


# following


def test_a_snapshot_makes_the_thread_ready() -> None:
    session = ClientSession()
    session.connected()
    thread = session.open("t").thread
    ready = [thread.ready]
    assert hear(session, snapshot(5, {"a": 1}, run=RunInfo(id="r", status="running"))) == [Changed(thread)]
    assert [*ready, thread.ready] == [False, True]
    assert thread.replica.state == {"a": 1}
    assert thread.replica.position == Position(7, 5)
    assert thread.run == RunInfo(id="r", status="running")
    assert thread.active


def test_an_update_that_leads_on_is_applied_and_its_epoch_adopted() -> None:
    session, opening = opened(snapshot(1, {"text": "a", "other": {}}))
    before = opening.thread.replica.state
    hear(session, update(2, AppendText(("text",), "b"), epoch=8))
    after = opening.thread.replica.state
    assert after == {"text": "ab", "other": {}}
    assert before == {"text": "a", "other": {}}
    assert after["other"] is before["other"]
    assert opening.thread.replica.position == Position(8, 2)


def test_a_merged_update_is_applied_where_its_from_fits() -> None:
    session, opening = opened(snapshot(1, {}))
    hear(session, update(9, put("n", 9), from_=1))
    assert opening.thread.replica.position == Position(7, 9)
    assert sent(session) == []


@pytest.mark.parametrize(
    "misfit",
    [
        pytest.param(update(7, put("n", "x")), id="gap"),
        pytest.param(update(9, put("n", "x"), from_=7), id="merged, gap"),
        pytest.param(update(7, put("n", "x"), from_=3), id="overlap"),
        pytest.param(update(5, put("n", "x")), id="again"),
        pytest.param(update(4, put("n", "x")), id="late"),
    ],
)
def test_an_update_that_does_not_lead_on_is_dropped_and_what_is_missing_asked_for_once(
    misfit: Update,
) -> None:
    session, opening = opened(snapshot(5, {"n": 5}))
    assert hear(session, misfit, misfit) == []
    assert sent(session) == [Open(thread="t", since={"epoch": 7, "seq": 5})]
    assert opening.thread.replica.state == {"n": 5}
    hear(session, update(6, put("n", 6)), update(10, put("n", 10), from_=6), run(None))
    assert opening.thread.replica.state == {"n": 10}
    assert sent(session) == []
    hear(session, update(12))
    assert sent(session) == [Open(thread="t", since={"epoch": 7, "seq": 10})]


def test_a_snapshot_replaces_whatever_there_was() -> None:
    session, opening = opened(snapshot(5, {"n": 5}))
    hear(session, snapshot(2, {"n": 2}, epoch=9), update(3, put("n", 3), epoch=9))
    assert opening.thread.replica.state == {"n": 3}
    assert opening.thread.replica.position == Position(9, 3)


def test_a_snapshot_of_the_position_that_is_here_keeps_the_state_as_an_object() -> None:
    session, opening = opened(snapshot(5, {"n": 5}))
    before = opening.thread.replica.state
    hear(session, snapshot(5, {"n": 5}))
    assert opening.thread.replica.state is before


def test_an_update_without_operations_moves_on_and_keeps_the_state_as_an_object() -> None:
    session, opening = opened(snapshot(5, {"n": 5}))
    before = opening.thread.replica.state
    hear(session, update(6, epoch=8))
    assert opening.thread.replica.state is before
    assert opening.thread.replica.position == Position(8, 6)


def test_a_matching_hash_changes_nothing() -> None:
    session, opening = opened(snapshot(1, {"n": 1}, hash=state_hash({"n": 1})))
    hear(session, update(2, put("n", 2.0), hash=state_hash({"n": 2})))
    assert opening.thread.replica.position == Position(7, 2)
    assert sent(session) == []


def test_a_hash_that_comes_by_itself_is_compared() -> None:
    session, opening = opened(snapshot(1, {"n": 1}))
    before = opening.thread.replica.state
    hear(session, update(1, from_=1, hash=state_hash({"n": 1})))
    assert opening.thread.replica.state is before
    assert sent(session) == []
    hear(session, update(1, from_=1, hash=state_hash({"n": 2})))
    assert sent(session) == [Open(thread="t")]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(update(2, put("n", 2), hash=state_hash({"n": 3})), id="another hash"),
        pytest.param(update(2, AppendText(("n",), "x")), id="an operation that doesn't fit"),
    ],
)
def test_a_replica_that_differs_gets_a_snapshot_and_shows_nothing_until_then(wrong: Update) -> None:
    session, opening = opened(snapshot(1, {"n": 1}))
    assert hear(session, wrong) == []
    assert sent(session) == [Open(thread="t")]
    assert hear(session, update(3, put("n", 3)), Heartbeat(heads={"t": (7, 3)})) == []
    hear(session, run(None))
    assert opening.thread.replica.state == {"n": 1}
    hear(session, snapshot(3, {"n": 3}), run(None), update(4, put("n", 4)))
    assert opening.thread.replica.state == {"n": 4}
    assert sent(session) == []


def test_a_replica_that_differs_right_after_its_snapshot_ends_the_thread() -> None:
    session, opening = opened(snapshot(1, {}))
    wrong = update(2, AppendText(("missing",), "x"))
    hear(session, wrong, snapshot(1, {}))
    sent(session)
    assert hear(session, wrong) == [Changed(opening.thread)]
    assert opening.thread.failure == ErrorInfo("internal", "the updates don't fit the snapshot")
    assert sent(session) == [Close(thread="t")]


def test_a_snapshot_with_a_wrong_hash_is_asked_for_once_more() -> None:
    session = ClientSession()
    session.connected()
    thread = session.open("t", hash=True).thread
    sent(session)
    hear(session, snapshot(1, {}, hash="0" * 64))
    assert not thread.ready
    assert sent(session) == [Open(thread="t", hash=True)]
    hear(session, snapshot(1, {}, hash="0" * 64))
    assert thread.failure is not None


def test_a_hash_of_a_state_that_has_none_counts_as_different() -> None:
    session, _ = opened(snapshot(1, {}))
    hear(session, update(2, put("n", 2**60), hash="0" * 64))
    assert sent(session) == [Open(thread="t")]


@pytest.mark.parametrize("head", [(7, 6), (8, 6), (8, 5), (6, 5), (7, 4)])
def test_a_heartbeat_that_names_another_position_asks_once_for_what_was_lost(head: tuple[int, int]) -> None:
    session, _ = opened(snapshot(5, {}), run(None))
    hear(session, Heartbeat(heads={"t": head}), Heartbeat(heads={"t": head}))
    assert sent(session) == [Open(thread="t", since={"epoch": 7, "seq": 5})]


def test_a_heartbeat_that_agrees_or_is_of_no_concern_asks_for_nothing() -> None:
    session, _ = opened(snapshot(5, {}), run(None))
    hear(session, Heartbeat(heads={"t": (7, 5), "other": (9, 9)}), Heartbeat(heads={}))
    assert sent(session) == []


def test_a_heartbeat_before_the_open_is_answered_asks_for_nothing() -> None:
    session, _ = opened(snapshot(5, {}), run(None))
    reconnect(session)
    hear(session, Heartbeat(heads={"t": (7, 9)}))
    assert sent(session) == []


def test_a_run_frame_alone_answers_an_open_that_missed_nothing() -> None:
    session, opening = opened(snapshot(5, {}), run("running"))
    reconnect(session)
    assert hear(session, run("completed")) == [Changed(opening.thread)]
    assert not opening.thread.asked
    assert opening.thread.run == RunInfo(id="r", status="completed")


def test_frames_of_threads_that_nobody_follows_are_ignored() -> None:
    session = ClientSession()
    session.connected()
    tool = Tool(thread="t", tool_call_id="c", name="n", args={})
    error = Error(code="not-found", message="", thread="t")
    command = CommandState(thread="t", id="1", status="applied", seq=1)
    assert hear(session, snapshot(1, {}), update(2), run(None), tool, error, command) == []
    assert sent(session) == []


# sharing


def test_a_thread_opened_twice_is_asked_for_once_and_closed_with_the_last() -> None:
    session, first = opened(snapshot(1, {}), run(None), agent="a")
    second = session.open("t")
    assert second.thread is first.thread
    session.close(first)
    session.close(first)
    assert sent(session) == []
    session.close(second)
    assert sent(session) == [Close(thread="t")]
    hear(session, update(2, put("n", 2)))
    assert second.thread.replica.state == {}


def test_tools_and_hash_of_all_openings_are_declared_as_they_come_and_go() -> None:
    session, first = opened(snapshot(1, {}), run(None), tools=["a", "b"])
    since = {"epoch": 7, "seq": 1}
    second = session.open("t", tools=["b", "c"], hash=True)
    assert sent(session) == [Open(thread="t", since=since, tools=("a", "b", "c"), hash=True)]
    third = session.open("t", tools=["a"])
    assert sent(session) == []
    session.close(second)
    assert sent(session) == [Open(thread="t", since=since, tools=("a", "b"))]
    session.close(third)
    session.close(first)
    assert sent(session) == [Close(thread="t")]


def test_a_thread_opened_under_another_agent_is_refused_and_the_first_lives() -> None:
    session, first = opened(agent="a")
    with pytest.raises(Refused) as caught:
        session.open("t", agent="b")
    assert caught.value.code == "agent-mismatch"
    assert first.thread.openings == [first]


def test_a_thread_closed_and_opened_again_starts_anew() -> None:
    session, first = opened(snapshot(5, {"n": 5}), run(None))
    session.close(first)
    second = session.open("t")
    assert sent(session) == [Close(thread="t"), Open(thread="t")]
    hear(session, update(6, put("n", 6)), run(None))
    assert not second.thread.ready
    hear(session, snapshot(6, {"n": 6}))
    assert second.thread.replica.state == {"n": 6}


# refusals


@pytest.mark.parametrize("code", ["not-found", "forbidden", "agent-mismatch", "too-many-threads", "internal"])
def test_an_error_ends_its_thread(code: str) -> None:
    session, opening = opened()
    assert hear(session, Error(code=code, message="no", thread="t")) == [Changed(opening.thread)]
    assert opening.thread.failure == ErrorInfo(code, "no")
    assert sent(session) == [Close(thread="t")]
    session.close(opening)
    assert sent(session) == []
    assert reconnect(session) == []


def test_an_unavailable_store_is_asked_again_later_from_the_same_place() -> None:
    session, opening = opened(snapshot(5, {}), run(None))
    unavailable = Error(code="store-unavailable", message="", thread="t")
    assert hear(session, unavailable, unavailable) == [
        RetryLater(opening.thread, 1),
        RetryLater(opening.thread, 2),
    ]
    assert sent(session) == []
    session.retry(opening.thread)
    assert sent(session) == [Open(thread="t", since={"epoch": 7, "seq": 5})]
    hear(session, run(None))
    assert hear(session, unavailable) == [RetryLater(opening.thread, 1)]


def test_a_retry_of_what_is_no_longer_wanted_does_nothing() -> None:
    session, opening = opened()
    command = session.send("t", "1", BODY)
    session.close(opening)
    hear(session, CommandState(thread="t", id="1", status="cancelled"))
    sent(session)
    session.retry(opening.thread)
    session.retry(command)
    assert sent(session) == []


def test_an_error_about_nothing_in_particular_is_reported() -> None:
    error = Error(code="unknown-frame", message="what?")
    assert hear(ClientSession(), error) == [Problem(error)]


def test_an_open_that_can_not_be_sent_ends_its_thread() -> None:
    session = ClientSession()
    session.connected()
    thread = session.open("t", state="x").thread
    frame = session.next_frame()
    assert frame is not None
    assert session.refuse(frame, ErrorInfo("too-large", "")) == [Changed(thread)]
    assert thread.failure == ErrorInfo("too-large", "")
    assert session.refuse(frame, ErrorInfo("too-large", "")) == []


# commands


def test_a_command_goes_from_queued_to_applied() -> None:
    session, opening = opened()
    command = session.send("t", "1", BODY)
    assert sent(session) == [SendCommand(thread="t", id="1", command=BODY)]
    assert session.unsettled("t")
    queued = CommandState(thread="t", id="1", status="queued")
    assert hear(session, queued) == [Changed(command), Changed(opening.thread)]
    assert (command.status, command.acknowledged, command.duplicate) == ("queued", True, False)
    hear(session, CommandState(thread="t", id="1", status="running"))
    assert session.unsettled("t")
    hear(session, CommandState(thread="t", id="1", status="applied", seq=4))
    assert (command.status, command.seq) == ("applied", 4)
    assert not session.unsettled("t")
    assert hear(session, queued) == []


def test_a_rejected_command_keeps_its_error() -> None:
    session, _ = opened()
    command = session.send("t", "1", BODY)
    error = ErrorInfo("invalid-command", "no", "command.message")
    hear(session, CommandState(thread="t", id="1", status="rejected", error=error))
    assert (command.status, command.error, command.acknowledged) == ("rejected", error, False)


@pytest.mark.parametrize("thread", ["t", None])
def test_an_error_with_an_id_rejects_the_command(thread: str | None) -> None:
    session, opening = opened()
    command = session.send("t", "1", BODY)
    hear(session, Error(code="command-id-reused", message="used", thread=thread, id="1"))
    assert command.error == ErrorInfo("command-id-reused", "used")
    assert not command.acknowledged
    assert opening.thread.failure is None
    assert hear(session, Error(code="command-id-reused", message="used", thread=thread, id="1")) == []


def test_a_command_known_to_the_server_is_a_duplicate() -> None:
    session, _ = opened()
    command = session.send("t", "1", BODY)
    hear(session, CommandState(thread="t", id="1", status="applied", duplicate=True, seq=2))
    assert command.duplicate


def test_a_command_that_this_session_sent_twice_is_no_duplicate() -> None:
    session, _ = opened()
    command = session.send("t", "1", BODY)
    sent(session)
    assert reconnect(session)[-1] is command.frame
    hear(session, CommandState(thread="t", id="1", status="queued", duplicate=True))
    assert (command.status, command.duplicate) == ("queued", False)


def test_the_same_command_under_the_same_id_is_sent_once() -> None:
    session, _ = opened()
    command = session.send("t", "1", {"n": 1, "m": 2})
    assert session.send("t", "1", {"m": 2, "n": 1.0}) is command
    assert len(sent(session)) == 1
    assert session.send("other", "1", {"n": 1, "m": 2}) is not command


def test_another_command_under_the_same_id_is_refused_and_the_first_lives() -> None:
    session, _ = opened()
    command = session.send("t", "1", {"n": 1})
    with pytest.raises(CommandError) as caught:
        session.send("t", "1", {"n": 2})
    assert caught.value.code == "command-id-reused"
    assert command.status is None


def test_a_command_given_up_before_it_was_sent_is_never_sent() -> None:
    session, _ = opened()
    session.forget(session.send("t", "1", BODY))
    assert sent(session) == []
    assert reconnect(session) == [Open(thread="t", since={"epoch": 7, "seq": 0})]
    assert not session.unsettled("t")


def test_a_command_is_given_up_with_its_last_sender() -> None:
    session, _ = opened()
    command = session.send("t", "1", BODY)
    session.send("t", "1", BODY)
    session.forget(command)
    assert len(sent(session)) == 1
    session.forget(command)
    session.forget(command)
    assert not session.unsettled("t")


def test_a_command_that_the_server_has_stays_when_its_senders_leave() -> None:
    session, opening = opened()
    command = session.send("t", "1", BODY)
    hear(session, CommandState(thread="t", id="1", status="queued"))
    session.forget(command)
    session.close(opening)
    assert hear(session, CommandState(thread="t", id="1", status="applied", seq=1)) == [Changed(command)]
    assert command.status == "applied"


@pytest.mark.parametrize("code", ["store-unavailable", "overloaded"])
def test_a_command_that_may_have_arrived_is_not_rejected_by_a_server_that_can_not_look(code: str) -> None:
    session, _ = opened()
    command = session.send("t", "1", BODY)
    sent(session)
    reconnect(session)
    refused = CommandState(thread="t", id="1", status="rejected", error=ErrorInfo(code, ""))
    assert hear(session, refused, refused) == [RetryLater(command, 1), RetryLater(command, 2)]
    assert command.status is None
    session.retry(command)
    assert sent(session) == [command.frame]
    hear(session, CommandState(thread="t", id="1", status="applied", duplicate=True, seq=3))
    assert command.status == "applied"


def test_a_command_that_can_not_have_arrived_is_rejected_by_an_unavailable_store() -> None:
    session, _ = opened()
    session.disconnected()
    command = session.send("t", "1", BODY)
    session.connected()
    session.disconnected()  # before anything was sent
    session.connected()
    error = ErrorInfo("store-unavailable", "")
    hear(session, CommandState(thread="t", id="1", status="rejected", error=error))
    assert (command.status, command.error) == ("rejected", error)


def test_a_command_that_can_not_be_sent_is_rejected() -> None:
    session, _ = opened()
    command = session.send("t", "1", BODY)
    session.refuse(command.frame, ErrorInfo("too-large", ""))
    assert (command.status, command.error) == ("rejected", ErrorInfo("too-large", ""))
    assert not session.unsettled("t")
    assert session.refuse(command.frame, ErrorInfo("too-large", "")) == []


def test_the_state_may_come_after_the_news_that_a_command_is_applied() -> None:
    session, opening = opened(snapshot(3, {}))
    session.send("t", "1", BODY)
    caught_up = [opening.thread.caught_up]
    for frame in (CommandState(thread="t", id="1", status="applied", seq=5), update(4), update(5)):
        hear(session, frame)
        caught_up.append(opening.thread.caught_up)
    assert caught_up == [True, False, False, True]


def test_effects_on_a_thread_that_has_started_over_are_not_waited_for() -> None:
    session, opening = opened(snapshot(3, {}))
    session.send("t", "1", BODY)
    hear(session, CommandState(thread="t", id="1", status="applied", seq=5))
    reconnect(session)
    hear(session, snapshot(0, {}, epoch=9), run(None))
    assert opening.thread.caught_up


# cancel and tools


def test_cancel_is_done_when_the_run_has_ended() -> None:
    session, opening = opened(snapshot(1, {}), run("running"))
    cancel = session.cancel(opening.thread)
    assert sent(session) == [Cancel(thread="t")]
    done = []
    for frame in (run("running"), update(2, put("n", 2)), run("cancelled")):
        hear(session, frame)
        done.append(cancel.done)
    assert done == [False, False, True]
    assert reconnect(session) == [Open(thread="t", since={"epoch": 7, "seq": 2})]


def test_cancel_of_a_run_is_done_when_another_one_goes_on() -> None:
    session, opening = opened(snapshot(1, {}), run("running", "r1"))
    cancel = session.cancel(opening.thread, "r1")
    hear(session, run("running", "r2"))
    assert cancel.done


def test_cancel_of_an_idle_thread_is_answered_by_its_run() -> None:
    session, opening = opened(snapshot(1, {}), run(None))
    cancel = session.cancel(opening.thread)
    hear(session, run(None))
    assert cancel.done


def test_a_refused_cancel_leaves_the_thread_alone() -> None:
    session, opening = opened(snapshot(1, {}), run("running"))
    cancel = session.cancel(opening.thread)
    assert hear(session, Error(code="forbidden", message="no", thread="t")) == [Changed(opening.thread)]
    assert (cancel.done, cancel.error) == (True, ErrorInfo("forbidden", "no"))
    assert opening.thread.failure is None
    hear(session, Error(code="not-found", message="late", thread="t", field="run"))
    assert opening.thread.failure is None


def test_a_cancel_that_met_an_overloaded_server_is_sent_again() -> None:
    session, opening = opened(snapshot(1, {}), run("running"))
    session.cancel(opening.thread)
    hear(session, Error(code="overloaded", message="", thread="t"))
    sent(session)
    session.retry(opening.thread)
    assert sent(session) == [Open(thread="t", since={"epoch": 7, "seq": 1}), Cancel(thread="t")]


def test_a_cancel_given_up_is_not_sent() -> None:
    session, opening = opened(snapshot(1, {}), run("running"))
    cancel = session.cancel(opening.thread)
    session.forget_cancel(cancel)
    session.forget_cancel(cancel)
    assert sent(session) == []
    session.cancel(opening.thread)
    session.close(opening)
    assert sent(session) == [Close(thread="t")]


def test_tool_calls_wait_for_whoever_takes_them_until_the_run_ends_or_the_connection_does() -> None:
    session, opening = opened(snapshot(1, {}), run("running"), tools=["search"])
    call = Tool(thread="t", tool_call_id="c", name="search", args={"q": 1})
    assert hear(session, call, call) == [Changed(opening.thread)] * 2
    hear(session, run("waiting"))
    assert list(opening.thread.tool_calls.values()) == [call]
    assert not opening.thread.active
    hear(session, run("cancelled"))
    assert opening.thread.tool_calls == {}
    hear(session, call)
    reconnect(session)
    assert opening.thread.tool_calls == {}
