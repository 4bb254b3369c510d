import { type Json, apply, connect } from "@threadwire/client";
import { afterEach, expect, test, vi } from "vitest";
import { FakeEnvironment } from "../../packages/client/tests/support.js";
import { Recorder } from "../src/inspector/recorder.js";

afterEach(() => void vi.useRealTimers());

function recorded() {
  vi.useFakeTimers();
  const env = new FakeEnvironment();
  const connection = connect("ws://test/ws", { environment: env });
  env.last.welcome();
  const thread = connection.open("t");
  const recorder = new Recorder(connection, thread);
  const snapshot = (seq: number, state: Json) => env.last.says({ type: "snapshot", thread: "t", epoch: 1, seq, state, run: null });
  const update = (seq: number, from = seq - 1) =>
    env.last.says({ type: "update", thread: "t", epoch: 1, seq, from, ops: [{ type: "set", path: ["n"], value: seq }] });
  return { env, connection, thread, recorder, snapshot, update };
}

test("every state that an update ended at can be seen again", () => {
  const { env, recorder, snapshot, update } = recorded();
  snapshot(10, { n: 10 });
  for (let seq = 11; seq <= 400; seq++) {
    update(seq);
    if (seq % 50 === 0) env.draw();
  }
  expect(recorder.range).toEqual([10, 400]);
  for (const seq of [10, 11, 399, 57, 400, 210, 211]) expect(recorder.stateAt(seq)).toEqual({ n: seq });
  expect(recorder.stateAt(9)).toBeUndefined();
});

test("states between merged updates are those before them", () => {
  const { recorder, snapshot, update } = recorded();
  snapshot(1, { n: 1 });
  update(5, 1);
  update(6);
  expect([1, 4, 5, 6].map((seq) => recorder.stateAt(seq))).toEqual([{ n: 1 }, { n: 1 }, { n: 5 }, { n: 6 }]);
});

test("the log from before leads up to what is known", () => {
  const { recorder, snapshot, update } = recorded();
  snapshot(250, { n: 250 });
  update(251);
  recorder.prepend(Array.from({ length: 300 }, (_, index) => ({ seq: index + 1, ops: [{ type: "set" as const, path: ["n"], value: index + 1 }] })));
  expect(recorder.range).toEqual([0, 251]);
  expect([0, 1, 137, 250, 251].map((seq) => recorder.stateAt(seq))).toEqual([{}, { n: 1 }, { n: 137 }, { n: 250 }, { n: 251 }]);
});

test("a thread that starts over is another one", () => {
  const { recorder, snapshot, update } = recorded();
  snapshot(10, { n: 10 });
  update(11);
  snapshot(1, { fresh: true });
  expect(recorder.range).toEqual([1, 1]);
  expect(recorder.stateAt(1)).toEqual({ fresh: true });
});

test("runs and commands are told with their times", () => {
  const { env, thread, recorder, snapshot } = recorded();
  snapshot(1, {});
  env.time = 100;
  thread.send({ type: "go-on" }, { id: "k1" });
  env.time = 130;
  env.last.says({ type: "command", thread: "t", id: "k1", status: "queued" }, { type: "run", thread: "t", run: { id: "r1", status: "running" } });
  env.time = 400;
  env.last.says({ type: "command", thread: "t", id: "k1", status: "applied", seq: 2 }, { type: "run", thread: "t", run: { id: "r1", status: "failed", error: { code: "x", message: "m" } } });
  expect(recorder.commands).toMatchObject([{ id: "k1", type: "go-on", status: "applied", sent_ms: 100, acknowledged_ms: 130, settled_ms: 400, seq: 2 }]);
  expect(recorder.runs).toMatchObject([{ id: "r1", status: "failed", began_ms: 130, ended_ms: 400, error: { code: "x" } }]);
});

test("counters count, and listeners are told ten times a second at most", () => {
  const { recorder, snapshot, update } = recorded();
  let told = 0;
  recorder.subscribe(() => told++);
  snapshot(1, {});
  for (let seq = 2; seq < 50; seq++) update(seq);
  expect(told).toBe(0);
  vi.advanceTimersByTime(100);
  expect(told).toBe(1);
  expect(recorder.counters).toMatchObject({ updates: 48, operations: 48, updatesRate: 24 });
  recorder.stop();
  expect(vi.getTimerCount()).toBe(0);
});

test("what is recorded is bounded", () => {
  const { env, recorder, snapshot } = recorded();
  snapshot(0, {});
  let state: Json = {};
  for (let seq = 1; seq <= 25_000; seq++) {
    const ops = [{ type: "set" as const, path: ["n"], value: seq }];
    state = apply(state, ops);
    env.last.says({ type: "update", thread: "t", epoch: 1, seq, ops });
    if (seq % 100 === 0) env.draw();
  }
  expect(recorder.updates.length).toBeLessThanOrEqual(20_000);
  expect(recorder.stateAt(25_000)).toEqual(state);
  expect(recorder.stateAt(recorder.range[0])).toEqual({ n: recorder.range[0] });
});
