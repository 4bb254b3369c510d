import { apply, type Json, type ThreadSnapshot } from "@threadwire/client";
import { expect, test } from "vitest";
import { repositoryOf } from "../src/adapter.js";
import { stateConverter } from "../src/index.js";
import { Viewer } from "../src/view.js";

const NONE = new Map();
const snapshot = (state: Json, more: Partial<ThreadSnapshot> = {}): ThreadSnapshot => ({
  id: "t", ready: true, state, position: { epoch: 1, seq: 1 }, run: null, active: false, commands: [], toolCalls: [], failure: null, ...more,
});
const conversation = (count: number): Json =>
  ({ messages: Array.from({ length: count }, (_, index) => ({ id: `m${index}`, role: index % 2 ? "assistant" : "user", content: `text ${index}` })) });
const say = (id: string, text: string, more: object = {}, view: object = {}) =>
  ({ id: `k-${id}`, status: null, seq: null, error: null, ...view, command: { type: "add-message", message: { id, parts: [{ type: "text", text }] }, ...more } }) as never;

test("a token makes one message anew, and all others stay the same objects", () => {
  const viewer = new Viewer(stateConverter());
  const state = conversation(20);
  const before = viewer.view(snapshot(state, { active: true }), NONE);
  const next = apply(state, [{ type: "append-text", path: ["messages", 19, "content"], value: "!" }]);
  const after = viewer.view(snapshot(next, { active: true }), NONE);
  expect(after.shown.map((each, index) => each === before.shown[index])).toEqual([...Array(19).fill(true), false]);
  const [one, two] = [repositoryOf(before), repositoryOf(after)];
  expect(two.messages.filter(({ message }, index) => message !== one.messages[index]!.message)).toHaveLength(1);
});

test("the newest of many are shown, and the window grows back only", () => {
  const viewer = new Viewer(stateConverter(), 10);
  const ids = (state: Json): string[] => viewer.view(snapshot(state), NONE).shown.map((each) => each.id);
  const state = conversation(100);
  expect(ids(state)).toEqual(Array.from({ length: 10 }, (_, index) => `m${90 + index}`));
  expect(viewer.view(snapshot(state), NONE)).toMatchObject({ hidden: 90, before: "m89" });
  const longer = apply(state, [{ type: "set", path: ["messages", 100], value: { id: "m100", role: "user", content: "x" } }]);
  expect(ids(longer)).toHaveLength(11);
  viewer.showEarlier();
  expect(ids(longer)).toHaveLength(21);
  expect(ids(conversation(5))).toHaveLength(5);
});

test("a window never tears a result from its call", () => {
  const messages = Array.from({ length: 30 }, (_, index) =>
    index === 0 ? { type: "ai", id: "a", content: "", tool_calls: [] } : { type: "tool", id: `t${index}`, tool_call_id: `c${index}`, content: "" },
  );
  expect(new Viewer(stateConverter(), 5).view(snapshot({ messages }), NONE)).toMatchObject({ hidden: 0, shown: [{ id: "a" }] });
});

test("ids that are missing or come twice are told apart", () => {
  const state = { messages: [{ role: "user", content: "a" }, { id: "x", role: "user", content: "b" }, { id: "x", role: "user", content: "c" }] };
  expect(new Viewer(stateConverter()).view(snapshot(state), NONE).shown.map((each) => each.id)).toEqual(["message-0", "x", "x'"]);
});

test("what is on its way stands at the end, an edit in the place of what it replaces", () => {
  const viewer = new Viewer(stateConverter());
  const ids = (commands: never[]): string[] => viewer.view(snapshot(conversation(4), { commands }), NONE).shown.map((each) => each.id);
  expect(ids([say("new", "x")])).toEqual(["m0", "m1", "m2", "m3", "new"]);
  expect(ids([say("new", "x", { sourceId: "m2" })])).toEqual(["m0", "m1", "new"]);
  expect(ids([say("new", "x", { sourceId: "m2" }, { status: "rejected" })])).toEqual(["m0", "m1", "m2", "m3", "new"]);
  expect(ids([say("m2", "x")])).toEqual(["m0", "m1", "m2", "m3"]);
});

test("branches are counted in their order around the one that is shown", () => {
  const state = { ...(conversation(2) as object), threadwire: { branches: { m1: ["m0x", "m1", "m1y"] } } } as Json;
  const { messages, headId } = repositoryOf(new Viewer(stateConverter()).view(snapshot(state), NONE));
  expect(messages.map(({ message, parentId }) => [message.id, parentId])).toEqual([
    ["m0", null], ["m0x", "m0"], ["m1", "m0"], ["m1y", "m0"],
  ]);
  expect(headId).toBe("m1");
});

test("statuses follow the run and what is open", () => {
  const viewer = new Viewer(stateConverter());
  const status = (state: Json, more: Partial<ThreadSnapshot> = {}) => viewer.view(snapshot(state, more), NONE).shown.at(-1)!.status;
  expect(status(conversation(2), { active: true })).toEqual({ type: "running" });
  expect(status(conversation(2))).toEqual({ type: "complete", reason: "unknown" });
  const messages = [{ type: "ai", id: "a", content: "", tool_calls: [{ name: "t", args: {}, id: "c1" }] }];
  expect(status({ messages, threadwire: { tool_calls: { c1: { name: "t", args: {} } } } })).toMatchObject({ reason: "tool-calls" });
  const interrupts = { i: { value: { action_requests: [{ name: "t", args: {} }] } } };
  expect(status({ messages, threadwire: { interrupts } })).toMatchObject({ reason: "interrupt" });
});

test("of 2,000 messages none but the last sixty, and what changes, is converted", () => {
  const viewer = new Viewer(stateConverter());
  let state = conversation(2000);
  viewer.view(snapshot(state), NONE);
  const converted = new Set<unknown>();
  for (let round = 0; round < 500; round++) {
    state = apply(state, [{ type: "append-text", path: ["messages", 1999, "content"], value: "x" }]);
    for (const each of viewer.view(snapshot(state), NONE).shown) converted.add(each);
  }
  expect(converted.size).toBe(59 + 500);
});

test("calls of one id in a message are told apart, and the last keeps it", () => {
  const viewer = new Viewer(stateConverter());
  const call = { name: "t", args: {}, id: "call_0" };
  const messages = [
    { type: "ai", id: "a", content: "", tool_calls: [call] },
    { type: "tool", id: "r", tool_call_id: "call_0", content: "one" },
    { type: "ai", id: "b", content: "", tool_calls: [call, call] },
  ];
  const view = viewer.view(snapshot({ messages, threadwire: { tool_calls: { call_0: { name: "t", args: {} } } } }), NONE);
  expect(view.shown[0]!.like.content).toMatchObject([
    { toolCallId: "call_0''", result: "one" },
    { toolCallId: "call_0'" },
    { toolCallId: "call_0", interrupt: { type: "human" } },
  ]);
  expect(() => repositoryOf(view)).not.toThrow();
});
