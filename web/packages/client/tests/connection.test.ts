/** A connection against a server that the test plays, on a clock that it moves. */

import { expect, test, vi } from "vitest";
import { type ConnectOptions, type Connection, type Outbox, connect } from "../src/index.js";
import { FakeEnvironment } from "./support.js";

function connected(options: ConnectOptions = {}): { env: FakeEnvironment; connection: Connection } {
  const env = new FakeEnvironment();
  const connection = connect("ws://test/ws", { environment: env, backoff: { random: () => 0 }, ...options });
  return { env, connection };
}
const snapshot = (seq: number, state: unknown, epoch = 1) => ({
  type: "snapshot",
  thread: "t",
  epoch,
  seq,
  state,
  run: null,
});
const update = (seq: number, text: string, more: object = {}) => ({
  type: "update",
  thread: "t",
  epoch: 1,
  seq,
  ops: [{ type: "append-text", path: ["t"], value: text }],
  ...more,
});
const idle = { type: "run", thread: "t", run: null };

test("nothing is sent before the welcome, then threads and commands are", () => {
  const { env, connection } = connected();
  const thread = connection.open("t", { agent: "a", tools: ["pick"] });
  thread.send({ type: "x" }, { id: "k1" });
  env.last.onopen?.({} as never);
  expect(env.last.take()).toEqual([]);
  env.last.welcome();
  expect(env.last.take()).toEqual([
    { type: "open", thread: "t", agent: "a", tools: ["pick"] },
    { type: "command", thread: "t", id: "k1", command: { type: "x" }, agent: "a" },
  ]);
  expect(connection.getStatus()).toEqual({ state: "online" });
});

test("many updates between two pictures are one notification and one batch", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  const seen: unknown[] = [];
  thread.subscribe(() => seen.push(thread.getSnapshot().state));
  env.last.welcome();
  env.last.says(snapshot(1, { t: "a", other: {} }), idle);
  env.draw();
  const other = (thread.getSnapshot().state as { other: object }).other;
  for (let seq = 2; seq < 100; seq++) env.last.says(update(seq, "b"));
  expect(seen).toHaveLength(1);
  env.draw();
  expect(seen).toHaveLength(2);
  expect(thread.getSnapshot().state).toEqual({ t: `a${"b".repeat(98)}`, other: {} });
  expect((thread.getSnapshot().state as { other: object }).other).toBe(other);
  env.draw();
  expect(seen).toHaveLength(2);
});

test("a page that takes long to draw is told less often", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  let notified = 0;
  thread.subscribe(() => {
    notified += 1;
    env.time += 40; // what drawing takes
  });
  env.last.welcome();
  env.last.says(snapshot(1, { t: "" }), idle);
  env.draw();
  env.last.says(update(2, "x"));
  env.draw();
  expect(notified).toBe(1);
  env.advance(20);
  env.draw();
  expect(notified).toBe(2);
});

test("a lost connection is made again, with the position, and commands go under their ids", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(4, { t: "" }), idle);
  thread.send({ type: "x" }, { id: "k1" });
  thread.send({ type: "y" }, { id: "k2" });
  env.last.says({ type: "command", thread: "t", id: "k1", status: "applied", seq: 4 });
  env.last.lose();
  expect(connection.getStatus()).toMatchObject({ state: "waiting", retry_at_ms: 250 });
  thread.send({ type: "z" }, { id: "k3" });
  env.advance(250);
  env.last.welcome();
  expect(env.last.take().map((frame) => ("id" in frame ? frame.id : frame))).toEqual([
    { type: "open", thread: "t", since: { epoch: 1, seq: 4 } },
    "k2",
    "k3",
  ]);
});

test("waits grow with each failure and start over after a connection that held", () => {
  const { env, connection } = connected();
  const waits: number[] = [];
  for (let attempt = 0; attempt < 7; attempt++) {
    env.last.lose();
    const status = connection.getStatus();
    const wait = status.state === "waiting" ? status.retry_at_ms - env.time : NaN;
    waits.push(wait);
    env.advance(wait);
  }
  expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000]);
  env.last.welcome();
  env.advance(10_000);
  env.last.lose();
  expect(connection.getStatus()).toMatchObject({ retry_at_ms: env.time + 250 });
});

test.each([4401, 4403, 1009, 1002])("close code %i ends it for good", (code) => {
  const { env, connection } = connected();
  env.last.welcome();
  env.last.lose(code, "go away");
  expect(connection.getStatus()).toMatchObject({ state: "closed", error: { closeCode: code, message: "go away" } });
  env.advance(100_000);
  expect(env.sockets).toHaveLength(1);
});

test("waking up tries again at once, and drops a connection that doesn't answer", () => {
  const { env, connection } = connected();
  env.last.lose();
  env.wake();
  expect(env.sockets).toHaveLength(2);
  env.last.welcome();
  env.advance(1000);
  env.wake();
  expect(env.last.take()).toEqual([{ type: "ping", nonce: 1 }]);
  env.advance(4000);
  expect(connection.getStatus()).toMatchObject({ state: "waiting" });
});

test("what was on its way before waking up is no answer, and a slow answer is waited for as long as something comes", () => {
  const { env, connection } = connected();
  env.last.welcome();
  env.wake();
  env.advance(1);
  env.last.says({ type: "heartbeat", heads: {} });
  env.advance(3999);
  expect(connection.getStatus().state).toBe("online");
  env.advance(4000);
  expect(connection.getStatus().state).toBe("waiting");
  env.advance(250);
  env.last.welcome();
  env.wake();
  const [ping] = env.last.take();
  for (let seconds = 0; seconds < 10; seconds++) {
    env.last.says({ type: "heartbeat", heads: {} });
    env.advance(1000);
  }
  env.last.says({ type: "pong", nonce: (ping as { nonce: number }).nonce });
  env.advance(8001);
  expect(connection.getStatus().state).toBe("online");
});

test("a connection on which nothing comes is dropped after three heartbeats", () => {
  const { env, connection } = connected();
  env.last.welcome({ heartbeat_s: 1 });
  env.advance(2500);
  env.last.says({ type: "heartbeat", heads: {} });
  env.advance(2900);
  expect(connection.getStatus().state).toBe("online");
  env.advance(200);
  expect(connection.getStatus().state).toBe("waiting");
});

test("a heartbeat with another position asks for what is missing", () => {
  const { env, connection } = connected();
  connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(4, { t: "" }), idle);
  env.last.take();
  env.last.says({ type: "heartbeat", heads: { t: [1, 4], other: [1, 9] } });
  expect(env.last.take()).toEqual([]);
  env.last.says({ type: "heartbeat", heads: { t: [1, 5] } });
  expect(env.last.take()).toEqual([{ type: "open", thread: "t", since: { epoch: 1, seq: 4 } }]);
});

test("a state that the updates don't fit is asked for anew, once", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(4, { t: "" }), idle);
  env.draw();
  env.last.take();
  env.last.says({ ...update(5, "x"), ops: [{ type: "delete", path: ["none"] }] });
  env.draw();
  expect(env.last.take()).toEqual([{ type: "open", thread: "t" }]);
  env.last.says(snapshot(5, { t: "fresh" }), idle);
  env.draw();
  expect(thread.getSnapshot().state).toEqual({ t: "fresh" });
  env.last.says({ ...update(6, "x"), ops: [{ type: "delete", path: ["none"] }] });
  env.draw();
  expect(thread.getSnapshot().failure).toMatchObject({ code: "internal" });
});

test("goodbye moves on at once, and without a wish to reconnect ends it", () => {
  const { env, connection } = connected();
  env.last.welcome();
  const first = env.last;
  first.says({ type: "goodbye", reason: "restart", reconnect: true });
  expect(first.closed).toBe(true);
  expect(connection.getStatus()).toMatchObject({ state: "waiting", reason: "restart" });
  env.advance(250);
  env.last.welcome();
  env.last.says({ type: "goodbye", reason: "for ever", reconnect: false });
  env.last.lose(1001);
  expect(connection.getStatus()).toMatchObject({ state: "closed", error: { message: "for ever" } });
});

test("a command is shown until its effect is in the state", async () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(4, { t: "" }), idle);
  const sending = thread.send({ type: "x" }, { id: "k1" });
  env.draw();
  expect(thread.getSnapshot().commands).toMatchObject([{ id: "k1", status: null, command: { type: "x" } }]);
  env.last.says({ type: "command", thread: "t", id: "k1", status: "queued" });
  await sending.acknowledged();
  env.last.says({ type: "command", thread: "t", id: "k1", status: "applied", seq: 5 });
  env.draw();
  expect(thread.getSnapshot().commands).toMatchObject([{ id: "k1", status: "applied" }]);
  const applied = sending.applied();
  env.last.says(update(5, "x"));
  env.draw();
  expect(thread.getSnapshot().commands).toEqual([]);
  expect(await applied).toBe(5);
});

test("a refused command stays to be seen until it is dismissed", async () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(4, {}), idle);
  const sending = thread.send({ type: "x" }, { id: "k1" });
  const refused = expect(sending.acknowledged()).rejects.toMatchObject({ code: "invalid-command", field: "command.a" });
  const error = { code: "invalid-command", message: "no", field: "command.a" };
  env.last.says({ type: "command", thread: "t", id: "k1", status: "rejected", error });
  await refused;
  env.draw();
  expect(thread.getSnapshot().commands).toMatchObject([{ id: "k1", status: "rejected", error }]);
  thread.dismiss("k1");
  env.draw();
  expect(thread.getSnapshot().commands).toEqual([]);
});

test("what the server can't take for now is sent again, and given up at last", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  thread.send({ type: "x" }, { id: "k1" });
  const busy = { type: "command", thread: "t", id: "k1", status: "rejected", error: { code: "overloaded", message: "" } };
  let sent = 0;
  for (let round = 0; round < 20; round++) {
    env.last.says(busy);
    env.advance(20_000);
    sent += env.last.take().filter((frame) => frame.type === "command").length;
  }
  expect(sent).toBe(9);
  env.draw();
  expect(thread.getSnapshot().commands).toMatchObject([{ status: "rejected" }]);
});

test("a command beyond the server's limit is refused here", async () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome({ max_frame_bytes: 200 });
  const sending = thread.send({ type: "x", text: "ü".repeat(100) });
  await expect(sending.acknowledged()).rejects.toMatchObject({ code: "too-large" });
  expect(env.last.take().map((frame) => frame.type)).toEqual(["open"]);
});

test("commands that are not settled survive a reload", () => {
  let saved: Parameters<Outbox["save"]>[0] = [];
  const outbox: Outbox = { load: () => saved, save: (commands) => (saved = commands) };
  const first = connected({ outbox });
  first.connection.open("t").send({ type: "x" }, { id: "k1" });
  expect(saved).toEqual([{ thread: "t", id: "k1", command: { type: "x" } }]);
  const { env, connection } = connected({ outbox });
  const thread = connection.open("t");
  expect(thread.getSnapshot().commands).toMatchObject([{ id: "k1" }]);
  env.last.welcome();
  expect(env.last.take().at(-1)).toMatchObject({ type: "command", id: "k1" });
  env.last.says({ type: "command", thread: "t", id: "k1", status: "applied", seq: 1, duplicate: true });
  expect(saved).toEqual([]);
});

test("cancel is answered by the end of the run", async () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(1, {}), { type: "run", thread: "t", run: { id: "r1", status: "running" } });
  env.draw();
  expect(thread.getSnapshot().active).toBe(true);
  const cancelled = thread.cancel();
  expect(env.last.take().at(-1)).toEqual({ type: "cancel", thread: "t" });
  env.last.says({ type: "run", thread: "t", run: { id: "r1", status: "cancelled" } });
  await cancelled;
});

test("two shares of a thread are one subscription, with the tools of both", () => {
  const { env, connection } = connected();
  env.last.welcome();
  const one = connection.open("t", { tools: ["a"] });
  const two = connection.open("t", { tools: ["b"] });
  expect(env.last.take().map((frame) => frame.type === "open" && frame.tools)).toEqual([["a"], ["a", "b"]]);
  two.close();
  two.close();
  expect(env.last.take()).toMatchObject([{ type: "open", tools: ["a"] }]);
  one.close();
  expect(env.last.take()).toEqual([{ type: "close", thread: "t" }]);
});

test("a call of a client tool is here until the run ends or the connection is lost", () => {
  const { env, connection } = connected();
  const thread = connection.open("t", { tools: ["pick"] });
  env.last.welcome();
  const call = { type: "tool", thread: "t", tool_call_id: "c1", name: "pick", args: {} };
  env.last.says(snapshot(1, {}), call);
  env.draw();
  expect(thread.getSnapshot().toolCalls).toEqual([call]);
  env.last.lose();
  env.draw();
  expect(thread.getSnapshot().toolCalls).toEqual([]);
});

test("a thread that is gone says so", async () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  const waiting = expect(thread.until((now) => now.ready)).rejects.toMatchObject({ code: "not-found" });
  env.last.says({ type: "error", code: "not-found", message: "gone", thread: "t" });
  env.draw();
  await waiting;
  expect(thread.getSnapshot().failure).toMatchObject({ code: "not-found" });
});

test("what can't be read ends that connection, and the next one asks from where it stood", () => {
  const { env, connection } = connected();
  connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(3, {}), idle);
  env.last.onmessage?.({ data: "{nonsense" } as never);
  expect(connection.getStatus().state).toBe("waiting");
  env.advance(250);
  env.last.welcome();
  expect(env.last.take()).toEqual([{ type: "open", thread: "t", since: { epoch: 1, seq: 3 } }]);
});

test("close leaves no timer, frame or listener behind", async () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  const sending = thread.send({ type: "x" });
  const cancelled = expect(thread.cancel()).rejects.toMatchObject({ code: "connection-closed" });
  const refused = expect(sending.acknowledged()).rejects.toThrow("closed");
  connection.close();
  await Promise.all([cancelled, refused]);
  env.draw();
  expect(env.waiting).toEqual({ timers: 0, frames: 0, wakers: 0 });
});

test("observers see every message with its size", () => {
  const { env, connection } = connected();
  const observer = vi.fn();
  const stop = connection.observe(observer);
  env.last.welcome();
  connection.open("tü");
  expect(observer.mock.calls.map(([traffic]) => [traffic.direction, traffic.frames[0].type, traffic.frames.length])).toEqual([
    ["in", "welcome", 1],
    ["out", "open", 1],
  ]);
  expect(observer.mock.calls[1]![0].bytes).toBe(Buffer.byteLength(JSON.stringify({ type: "open", thread: "tü" })));
  stop();
  connection.open("t2");
  expect(observer).toHaveBeenCalledTimes(2);
});

test("a server of another version of the protocol is left, and what a newer one adds is passed over", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.says({ type: "welcome", protocol: 1, agents: ["a"], limits: { max_hops: 3 }, server: "test/9", strategies: [], moods: 1 });
  env.last.take();
  env.last.says({ type: "weather", thread: "t", of: "tomorrow" }, snapshot(1, { t: "" }), { ...update(2, "a"), mood: "good" });
  env.last.says({ type: "run", thread: "t", run: { id: "r", status: "pondering" } }, { type: "heartbeat", heads: { t: [1, 2], u: [1, 1] } });
  env.draw();
  expect(thread.getSnapshot()).toMatchObject({ state: { t: "a" }, active: false });
  expect(env.last.take()).toEqual([]);
  env.last.lose();
  env.advance(250);
  env.last.says({ type: "welcome", protocol: 2, agents: ["a"], limits: {}, server: "test/10", strategies: [] });
  expect(connection.getStatus()).toMatchObject({ state: "closed", error: { closeCode: 1002 } });
  env.advance(100_000);
  expect(env.sockets).toHaveLength(2);
  expect(thread.getSnapshot().state).toEqual({ t: "a" });
});

test("a frame of an unknown operation is asked for as a snapshot, and a huge one is taken", () => {
  const { env, connection } = connected();
  const thread = connection.open("t");
  env.last.welcome();
  env.last.says(snapshot(1, { t: "" }));
  env.last.says({ ...update(2, ""), ops: [{ type: "rotate", path: ["t"] }] });
  env.draw();
  env.last.take();
  const huge = "x".repeat(8 * 1024 * 1024);
  env.last.says(snapshot(2, { t: huge }), update(3, huge));
  env.draw();
  expect((thread.state as { t: string }).t).toHaveLength(16 * 1024 * 1024);
  expect(connection.getStatus().state).toBe("online");
});
