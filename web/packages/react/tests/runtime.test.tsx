/** The whole of it under React, against a server that the test plays. */

import { type AssistantRuntime, AssistantRuntimeProvider, useAui, useAuiState } from "@assistant-ui/react";
import { type Connection, type Json, connect } from "@threadwire/client";
import { StrictMode, act, useState } from "react";
import { type Root, createRoot } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FakeEnvironment } from "../../client/tests/support.js";
import {
  type ThreadwireRuntimeOptions,
  useApprovals,
  useCommands,
  useInterrupts,
  useSendCommand,
  useThreadState,
  useThreadwireRuntime,
} from "../src/index.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

let env: FakeEnvironment;
let connection: Connection;
let root: Root;
let runtime: AssistantRuntime;
let probe: ReturnType<typeof useProbe>;

function useProbe() {
  return {
    aui: useAui(),
    messages: useAuiState((state) => state.thread.messages),
    isRunning: useAuiState((state) => state.thread.isRunning),
    title: useThreadState((state: { title?: string } | null) => state?.title),
    commands: useCommands(),
    send: useSendCommand(),
    interrupts: useInterrupts(),
    approvals: useApprovals(),
  };
}
function Probe() {
  probe = useProbe();
  return null;
}
function App(options: ThreadwireRuntimeOptions) {
  const [thread, setThread] = useState(options.thread);
  runtime = useThreadwireRuntime({ ...options, thread, onThread: (id, begun) => { setThread(id); options.onThread?.(id, begun); } });
  return <AssistantRuntimeProvider runtime={runtime}><Probe /></AssistantRuntimeProvider>;
}

beforeEach(() => {
  env = new FakeEnvironment();
  connection = connect("ws://test/ws", { environment: env });
  env.last.welcome();
  root = createRoot(document.createElement("div"));
});
afterEach(async () => {
  await act(async () => root.unmount());
  connection.close();
});

async function show(options: Partial<ThreadwireRuntimeOptions> = {}): Promise<void> {
  await act(async () => root.render(<StrictMode><App connection={connection} thread="t" {...options} /></StrictMode>));
}
async function says(...frames: { type: string; [key: string]: unknown }[]): Promise<void> {
  await act(async () => {
    env.last.says(...frames);
    env.draw();
  });
}
const snapshot = (state: Json, seq = 1, thread = "t") => ({ type: "snapshot", thread, epoch: 1, seq, state, run: null });
const run = (status: string, thread = "t") => ({ type: "run", thread, run: { id: "r1", status } });
const sent = (type: string) => env.last.take().filter((frame) => frame.type === type) as unknown as { id: string; command: { [key: string]: Json } }[];
const texts = (): string[] => probe.messages.map((message) => message.content.map((part) => (part.type === "text" ? part.text : part.type)).join());

const TALK = { messages: [{ id: "u1", role: "user", content: "hi" }, { id: "a1", role: "assistant", content: "hello" }] };

test("the state's messages are there, and grow as it does", async () => {
  await show();
  await says(snapshot(TALK), run("running"));
  expect(texts()).toEqual(["hi", "hello"]);
  expect(probe.isRunning).toBe(true);
  await says({ type: "update", thread: "t", epoch: 1, seq: 2, ops: [{ type: "append-text", path: ["messages", 1, "content"], value: " you" }] }, run("completed"));
  expect(texts()).toEqual(["hi", "hello you"]);
  expect(probe.isRunning).toBe(false);
});

test("a message is on the screen at once, keeps its id, and is there once when it has arrived", async () => {
  await show();
  await says(snapshot(TALK), run("completed"));
  await act(async () => runtime.thread.append({ role: "user", content: [{ type: "text", text: "more" }] }));
  await act(async () => env.draw());
  const [frame] = sent("command");
  const message = frame!.command["message"] as { id: string };
  expect(frame!.command).toMatchObject({ type: "add-message", parentId: "a1" });
  expect(texts()).toEqual(["hi", "hello", "more"]);
  expect(probe.messages.at(-1)!.metadata.custom["sending"]).toMatchObject({ status: null });
  const value = { id: message.id, role: "user", content: "more" };
  await says(
    { type: "command", thread: "t", id: frame!.id, status: "applied", seq: 2 },
    { type: "update", thread: "t", epoch: 1, seq: 2, ops: [{ type: "set", path: ["messages", 2], value }] },
  );
  expect(texts()).toEqual(["hi", "hello", "more"]);
  expect(probe.messages.at(-1)!.metadata.custom["sending"]).toBeUndefined();
  expect(probe.commands).toEqual([]);
});

test("a refused message stays to be seen, and its error is told", async () => {
  const onError = vi.fn();
  await show({ onError });
  await says(snapshot(TALK), run("completed"));
  await act(async () => runtime.thread.append("more"));
  const [frame] = sent("command");
  const error = { code: "agent-error", message: "no" };
  await says({ type: "command", thread: "t", id: frame!.id, status: "rejected", error });
  expect(texts()).toEqual(["hi", "hello", "more"]);
  expect(onError).toHaveBeenCalledExactlyOnceWith(expect.objectContaining(error));
});

test("edit, regenerate, cancel and a message during the run are commands", async () => {
  await show({ strategy: "interrupt" });
  await says(snapshot(TALK), run("completed"));
  await act(async () => runtime.thread.append({ role: "user", content: [{ type: "text", text: "hey" }], parentId: null, sourceId: "u1" }));
  expect(sent("command")[0]!.command).toMatchObject({ type: "add-message", parentId: null, sourceId: "u1" });
  await act(async () => runtime.thread.startRun({ parentId: "u1" }));
  expect(sent("command")[0]!.command).toEqual({ type: "regenerate", parentId: "u1" });
  await says(run("running"));
  await act(async () => runtime.thread.append("and"));
  expect(sent("command")[0]).toMatchObject({ strategy: "interrupt", command: { type: "add-message" } });
  await act(async () => runtime.thread.cancelRun());
  expect(env.last.take()).toEqual([{ type: "cancel", thread: "t" }]);
  await says(run("cancelled"));
});

test("a stop before the first token keeps the message in its place and the composer empty", async () => {
  await show();
  await says(snapshot({ messages: [{ id: "u1", role: "user", content: "hi" }] }), run("running"));
  await act(async () => runtime.thread.cancelRun());
  await says(run("cancelled"));
  await act(async () => new Promise((resolve) => setTimeout(resolve, 5)));
  expect(texts()).toEqual(["hi"]);
  expect(runtime.thread.composer.getState().text).toBe("");
});

test("branches are counted and switched", async () => {
  await show();
  const branches = { a1: ["a0", "a1"] };
  await says(snapshot({ ...TALK, threadwire: { branches } }), run("completed"));
  const message = runtime.thread.getMessageById("a1");
  expect(message.getState()).toMatchObject({ branchNumber: 2, branchCount: 2 });
  await act(async () => message.switchToBranch({ position: "previous" }));
  expect(sent("command")[0]!.command).toEqual({ type: "switch-branch", messageId: "a0" });
  const messages = [TALK.messages[0], { id: "a0", role: "assistant", content: "earlier" }];
  await says({ type: "update", thread: "t", epoch: 1, seq: 2, ops: [{ type: "set", path: [], value: { messages, threadwire: { branches: { a0: ["a0", "a1"] } } } }] });
  expect(texts()).toEqual(["hi", "earlier"]);
  expect(runtime.thread.getMessageById("a0").getState()).toMatchObject({ branchNumber: 1, branchCount: 2 });
});

test("branches have their order, whatever of them was seen first", async () => {
  await show();
  const state = (id: string, ids?: string[]): Json => ({ messages: [TALK.messages[0]!, { id, role: "assistant", content: id }], ...(ids && { threadwire: { branches: { [id]: ids } } }) });
  await says(snapshot(state("a0")), run("completed"));
  const next = (seq: number, value: Json) => ({ type: "update", thread: "t", epoch: 1, seq, ops: [{ type: "set", path: [], value }] });
  await says(next(2, { messages: [TALK.messages[0]!] }), next(3, state("a1")));
  await says(next(4, state("a1", ["a0", "a1"])));
  expect(runtime.thread.getMessageById("a1").getState()).toMatchObject({ branchNumber: 2, branchCount: 2 });
  await says(next(5, state("a2")));
  await says(next(6, state("a2", ["a0", "a1", "a2"])));
  expect(runtime.thread.getMessageById("a2").getState()).toMatchObject({ branchNumber: 3, branchCount: 3 });
  expect(texts()).toEqual(["hi", "a2"]);
});

test("several actions of an interrupt are answered together", async () => {
  await show();
  const calls = ["Ada", "Bob"].map((to, index) => ({ name: "send", args: { to }, id: `c${index}` }));
  const value = { action_requests: calls.map(({ name, args }) => ({ name, args })), review_configs: [] };
  await says(snapshot({ messages: [{ type: "ai", id: "a", content: "", tool_calls: calls }], threadwire: { interrupts: { i1: { value } } } }), run("waiting"));
  const part = (index: number) => runtime.thread.getMessageById("a").getMessagePartByIndex(index);
  await act(async () => part(0).respondToToolApproval({ approved: true }));
  expect(sent("command")).toEqual([]);
  expect(part(0).getState()).toMatchObject({ approval: { approved: true } });
  await act(async () => part(1).respondToToolApproval({ approved: false, reason: "not him" }));
  expect(sent("command")[0]!.command).toEqual({
    type: "resume",
    answers: { i1: { decisions: [{ type: "approve" }, { type: "reject", message: "not him" }] } },
  });
});

test("a question is answered by its id", async () => {
  await show();
  await says(snapshot({ messages: [], threadwire: { interrupts: { i1: { value: "Which one?" } } } }), run("waiting"));
  expect(probe.interrupts.interrupts).toMatchObject([{ id: "i1", value: "Which one?", answered: false }]);
  await act(async () => { probe.interrupts.answer("i1", 2); env.draw(); });
  expect(sent("command")[0]!.command).toEqual({ type: "resume", answers: { i1: 2 } });
  expect(probe.interrupts.interrupts).toMatchObject([{ answered: true }]);
});

test("a tool is declared, executed once where the server says so, and its result sent", async () => {
  const execute = vi.fn(async ({ n }: { n: number }) => ({ twice: 2 * n }));
  const tools = { double: { execute } } as unknown as NonNullable<ThreadwireRuntimeOptions["tools"]>;
  await show({ tools });
  expect((env.last.take() as { tools?: string[] }[]).at(-1)!.tools).toEqual(["double"]);
  const state = { messages: [], threadwire: { tool_calls: { c1: { name: "double", args: { n: 4 } } } } };
  await says(snapshot(state), run("waiting"));
  expect(execute).not.toHaveBeenCalled();
  const call = { type: "tool", thread: "t", tool_call_id: "c1", name: "double", args: { n: 4 } };
  await says(call);
  await says(call);
  expect(execute).toHaveBeenCalledTimes(1);
  expect(sent("command").map((frame) => frame.command)).toEqual([
    { type: "add-tool-result", toolCallId: "c1", toolName: "double", result: { twice: 8 }, isError: false },
  ]);
});

test("a tool that fails tells the agent", async () => {
  const tools = { bad: { execute: () => { throw new Error("broken"); } } };
  await show({ tools });
  await says(snapshot({ threadwire: { tool_calls: { c1: { name: "bad", args: {} } } } }), run("waiting"), { type: "tool", thread: "t", tool_call_id: "c1", name: "bad", args: {} });
  expect(sent("command")[0]!.command).toMatchObject({ result: "broken", isError: true });
});

test("a new thread begins with its first message", async () => {
  const onThread = vi.fn();
  await show({ thread: null, agent: "a", onThread });
  expect(env.last.take()).toEqual([]);
  await act(async () => { await runtime.thread.append("first words"); });
  const id = onThread.mock.calls[0]![0] as string;
  expect(onThread.mock.calls[0]![1]).toMatchObject({ text: "first words" });
  const frames = env.last.take() as unknown as { type: string; thread: string; agent?: string }[];
  expect(frames.filter((frame) => frame.type === "command")).toMatchObject([{ thread: id, agent: "a" }]);
  expect(frames.some((frame) => frame.type === "close")).toBe(false);
  expect(texts()).toEqual(["first words"]);
  await says(snapshot({ messages: [] }, 0, id), { type: "run", thread: id, run: null });
  expect(texts()).toEqual(["first words"]);
});

test("a hook renders for its part of the state, and custom commands go out", async () => {
  await show();
  await says(snapshot({ ...TALK, title: "One" }), run("completed"));
  expect(probe.title).toBe("One");
  await act(async () => void probe.send({ type: "set-title", title: "Two" }));
  expect(sent("command")[0]!.command).toEqual({ type: "set-title", title: "Two" });
});
