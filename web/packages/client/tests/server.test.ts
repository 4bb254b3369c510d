/** Against the real server, in a process of its own. */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import WebSocket from "ws";
import {
  type ConnectOptions,
  type Connection,
  HttpClient,
  type Json,
  type SocketConstructor,
  apply,
  canonical,
  connect,
  httpBase,
} from "../src/index.js";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env["THREADWIRE_TEST_PYTHON"] ?? join(ROOT, ".venv/bin/python");

let server: ChildProcess;
let port: number;
const folder = mkdtempSync(join(tmpdir(), "threadwire-web-"));
const connections: Connection[] = [];

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function start(): Promise<void> {
  const args = ["server.py", "--port", String(port), "--store", `sqlite:///${join(folder, "threads.db")}`];
  const started = spawn(PYTHON, args, { cwd: ROOT, stdio: ["ignore", "ignore", "pipe"] });
  server = started;
  let log = "";
  started.stderr?.on("data", (data: Buffer) => (log += data.toString()));
  const ended = new Promise<never>((_, reject) => {
    started.on("error", reject);
    started.on("exit", () => reject(new Error(`the server ended: ${log}`)));
  });
  ended.catch(() => {});
  const ready = async (): Promise<void> => {
    for (;;) {
      try {
        if ((await fetch(`http://127.0.0.1:${port}/readyz`)).ok) return;
      } catch {
        // not yet
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await Promise.race([ready(), ended]);
}

async function kill(): Promise<void> {
  const exited = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await exited;
}

beforeAll(async () => {
  port = await freePort();
  await start();
}, 120_000);
afterEach(() => {
  for (const connection of connections.splice(0)) connection.close();
});
afterAll(async () => {
  await kill();
  rmSync(folder, { recursive: true, force: true });
});

function open(options: ConnectOptions = {}): Connection {
  const connection = connect(`ws://127.0.0.1:${port}/ws`, {
    WebSocket: WebSocket as unknown as SocketConstructor,
    backoff: { initial_ms: 50 },
    hash: true,
    ...options,
  });
  connections.push(connection);
  return connection;
}
const say = (text: string) => ({
  type: "add-message",
  message: { role: "user", parts: [{ type: "text", text }] },
});
const contents = (state: unknown): string[] =>
  ((state as { messages?: { content: string }[] } | null)?.messages ?? []).map((message) => message.content);

test.each(["json", "msgpack"] as const)("a message and its answer, in %s", async (encoding) => {
  const thread = open({ encoding }).open(`hello-${encoding}`, { agent: "scripted" });
  const sending = thread.send(say("one two three"));
  await sending.acknowledged();
  await sending.applied();
  const end = await thread.until((now) => now.run?.status === "completed");
  expect(contents(end.state)).toEqual(["one two three", "one two three"]);
  expect(end.commands).toEqual([]);
});

test("two connections see the same, one of them from the middle on", async () => {
  const first = open().open("both", { agent: "scripted" });
  first.send(say("count 200 every 5"));
  await first.until((now) => contents(now.state)[1]?.includes("20 ") === true);
  const second = open({ encoding: "msgpack" }).open("both");
  const [one, two] = await Promise.all([first, second].map((each) => each.until((now) => now.run?.status === "completed")));
  expect(canonical(one!.state)).toBe(canonical(two!.state));
  expect(one!.position).toEqual(two!.position);
  expect(contents(one!.state)[1]).toMatch(/^1 2 .* 200 $/);
});

test("cancel stops the run and keeps what it wrote", async () => {
  const thread = open().open("cancel", { agent: "scripted" });
  thread.send(say("hang on"));
  await thread.until((now) => contents(now.state)[1] === "hang ");
  await thread.cancel();
  const end = await thread.until((now) => now.run?.status === "cancelled");
  expect(contents(end.state)).toEqual(["hang on", "hang "]);
});

test("a wrong command is refused with its field", async () => {
  const thread = open().open("wrong", { agent: "scripted" });
  await expect(thread.send({ type: "set-title", title: 5 }).acknowledged()).rejects.toMatchObject({
    code: "invalid-command",
    field: "command.title",
  });
  await expect(thread.send({ type: "nonsense" }).acknowledged()).rejects.toMatchObject({ code: "unknown-command" });
});

test("the server is killed in mid-answer, and everything is there again once it is back", async () => {
  const connection = open();
  const thread = connection.open("killed", { agent: "scripted" });
  thread.send(say("count 400 every 10"));
  await thread.until((now) => contents(now.state)[1]?.includes("30 ") === true);
  await kill();
  const seen = contents(thread.state)[1]!;
  await waitFor(connection, "waiting");
  const late = thread.send(say("after the crash"), { id: "late" });
  await start();
  await late.applied();
  const end = await thread.until((now) => now.run?.status === "completed");
  const [, partial, said, answer] = contents(end.state);
  expect(partial!.startsWith(seen)).toBe(true);
  expect([said, answer]).toEqual(["after the crash", "after the crash"]);
  expect(contents(end.state)).toHaveLength(4);
}, 120_000);

test("history leads to the state, and thread records can be changed", async () => {
  const thread = open().open("history", { agent: "scripted" });
  await thread.send(say("a b c")).applied();
  await thread.until((now) => now.run?.status === "completed");
  const http = new HttpClient(httpBase(`ws://127.0.0.1:${port}/ws`));
  const history = await http.history("history", { after: 0 });
  const state = history.updates.reduce<Json>((before, update) => apply(before, update.ops), {});
  expect(canonical(state)).toBe(canonical((await http.state("history")).state));
  expect((await http.change("history", { title: "Third" })).title).toBe("Third");
  expect((await http.threads({ limit: 1 })).threads).toHaveLength(1);
  expect(Object.keys((await http.schemas()).commands)).toContain("scripted");
  await http.delete("history");
  await expect(http.thread("history")).rejects.toMatchObject({ status: 404, code: "not-found" });
  await thread.until((now) => now.failure?.code === "not-found");
});

function waitFor(connection: Connection, state: string): Promise<void> {
  return new Promise((resolve) => {
    const stop = connection.subscribe(() => {
      if (connection.getStatus().state === state) {
        stop();
        resolve();
      }
    });
    if (connection.getStatus().state === state) resolve();
  });
}
