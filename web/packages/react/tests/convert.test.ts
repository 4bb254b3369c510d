import { expect, test } from "vitest";
import type { Json } from "@threadwire/client";
import { langchainConverter, messagesConverter, stateConverter } from "../src/index.js";
import { EMPTY_OVERLAY, OverlayReader } from "../src/convert/overlay.js";

const convert = (messages: Json[], overlay = EMPTY_OVERLAY) => langchainConverter().convert(messages, { id: "m", overlay });
const reader = (state: object, commands: object[] = [], decided?: Map<string, never>) =>
  new OverlayReader().read(state as Json, commands as never, decided);

test("a text of a person, and one with an image, a file and data", () => {
  expect(convert([{ type: "human", content: "hi" }])).toEqual({ role: "user", id: "m", content: [{ type: "text", text: "hi" }] });
  const message = {
    type: "human",
    content: [
      { type: "text", text: "look" },
      { type: "image_url", image_url: { url: "https://x/y.png" } },
      { type: "file", source_type: "base64", data: "QQ==", mime_type: "application/pdf", filename: "a.pdf" },
    ],
    additional_kwargs: { metadata: { filenames: { "1": "y.png" }, data: [{ name: "place", data: { lat: 1 } }] } },
  };
  expect(convert([message])!.content).toEqual([
    { type: "text", text: "look" },
    { type: "image", image: "https://x/y.png", filename: "y.png" },
    { type: "file", data: "QQ==", mimeType: "application/pdf", filename: "a.pdf" },
    { type: "data", name: "place", data: { lat: 1 } },
  ]);
});

test("an answer, its calls, their results and what follows are one message", () => {
  const call = { name: "weather", args: { city: "Rome" }, id: "c1", type: "tool_call" };
  const messages = [
    { type: "ai", id: "a1", content: "", tool_calls: [call] },
    { type: "tool", id: "t1", tool_call_id: "c1", name: "weather", content: '{"c": 21}' },
    { type: "ai", id: "a2", content: [{ type: "reasoning", reasoning: "hm" }, { type: "text", text: "21 degrees" }] },
  ];
  const converter = langchainConverter();
  expect(messages.slice(1).every((message) => converter.joins(message, messages[0]!))).toBe(true);
  expect(convert(messages)).toEqual({
    role: "assistant",
    id: "m",
    content: [
      { type: "tool-call", toolCallId: "c1", toolName: "weather", args: { city: "Rome" }, argsText: '{"city":"Rome"}', result: { c: 21 } },
      { type: "reasoning", text: "hm" },
      { type: "text", text: "21 degrees" },
    ],
  });
});

test("arguments that stream, a failed tool, a call that can't be read and a result without a call", () => {
  const streaming = { type: "ai", content: "", tool_calls: [{ name: "t", args: {}, id: "c1", partial_json: '{"a": 1, "b' }] };
  expect(convert([streaming])!.content).toMatchObject([{ argsText: '{"a": 1, "b' }]);
  expect(convert([streaming, { type: "tool", tool_call_id: "c1", content: "no", status: "error" }])!.content).toMatchObject([
    { toolName: "t", result: "no", isError: true },
  ]);
  const invalid = { type: "ai", content: "", invalid_tool_calls: [{ name: "t", args: "{", id: "c2", error: "bad" }] };
  expect(convert([invalid])!.content).toMatchObject([{ toolCallId: "c2", argsText: "{", result: "bad", isError: true }]);
  expect(convert([{ type: "tool", tool_call_id: "c3", name: "t", content: "x" }])!.content).toMatchObject([{ toolName: "t", result: "x" }]);
});

test("what was cut short says so, and what nobody knows is not shown", () => {
  expect(convert([{ type: "ai", content: "par", response_metadata: { threadwire: "cancelled" } }])!.status).toEqual({
    type: "incomplete",
    reason: "cancelled",
  });
  for (const odd of [null, 1, "x", [], {}, { type: "remove", id: "a" }, { type: 5 }] as Json[]) expect(convert([odd])).toBeNull();
  expect(convert([{ type: "ai", content: null, tool_calls: [null, 5, {}] }])!.content).toHaveLength(1);
});

test("a call that waits for approval, for a client, or is at work shows it", () => {
  const call = { name: "send", args: { to: "Ada" }, id: "c1" };
  const message = { type: "ai", content: "", tool_calls: [call, { ...call, id: "c2" }] };
  const request = (args: object) => ({ name: "send", args, description: "Send?" });
  const interrupts = {
    i1: {
      value: {
        action_requests: [request({ to: "Ada" }), request({ to: "Bob" })],
        review_configs: [{ action_name: "send", allowed_decisions: ["approve", "edit"] }],
      },
    },
  };
  const overlay = reader({ threadwire: { interrupts } });
  expect(overlay.approvals.map(({ id, decisions }) => [id, decisions])).toEqual([
    ["i1#0", ["approve", "edit"]],
    ["i1#1", ["approve", "edit"]],
  ]);
  const [first, second] = convert([message], overlay)!.content as unknown as { approval?: object }[];
  expect(first!.approval).toEqual({ id: "i1#0", prompt: "Send?" });
  expect(second!.approval).toBeUndefined();
  const answered = reader({ threadwire: { interrupts } }, [{ id: "k", status: null, command: { type: "resume", answers: { i1: {} } } }]);
  expect((convert([message], answered)!.content as unknown as { approval?: object }[])[0]!.approval).toMatchObject({ approved: true });
  const clients = reader({ threadwire: { tool_calls: { c1: { name: "send", args: {} } }, tools: { c2: { status: "running", output: "ab" } } } });
  expect(convert([message], clients)!.content).toMatchObject([
    { interrupt: { type: "human" } },
    { artifact: { threadwire: { status: "running", output: "ab" } } },
  ]);
});

test("a result on its way is shown at once", () => {
  const message = { type: "ai", content: "", tool_calls: [{ name: "pick", args: {}, id: "c1" }] };
  const command = { type: "add-tool-result", toolCallId: "c1", result: { file: "a" } };
  const sent = reader({ threadwire: { tool_calls: { c1: {} } } }, [{ id: "k", status: "queued", command }]);
  expect(convert([message], sent)!.content).toMatchObject([{ result: { file: "a" }, isError: false }]);
  const refused = reader({ threadwire: { tool_calls: { c1: {} } } }, [{ id: "k", status: "rejected", command }]);
  expect(convert([message], refused)!.content).toMatchObject([{ interrupt: { type: "human" } }]);
});

test("an overlay stays the same object as long as nothing in it changes", () => {
  const same = new OverlayReader();
  const interrupts = { i: { value: 1 } };
  const one = same.read({ threadwire: { interrupts }, a: 1 }, []);
  expect(same.read({ threadwire: { interrupts }, a: 2 }, [])).toBe(one);
  expect(same.read({ threadwire: { interrupts: {} } }, [])).not.toBe(one);
});

test("messages of functions, and both kinds in one state", () => {
  const generic = messagesConverter("log");
  expect(generic.messages({ log: [1] })).toEqual([1]);
  expect(generic.messages({ log: "no" })).toEqual([]);
  expect(generic.messages(null)).toBe(generic.messages(5));
  const context = { id: "m", overlay: EMPTY_OVERLAY };
  expect(generic.convert([{ role: "assistant", content: "x" }], context)!.content).toEqual([{ type: "text", text: "x" }]);
  const parts = [{ type: "text", text: "x" }, { type: "tool-call", toolCallId: "c", toolName: "t", args: { a: 1 }, result: 2 }];
  expect(generic.convert([{ role: "assistant", content: parts }], context)!.content).toMatchObject(parts);
  const both = stateConverter();
  expect(both.convert([{ role: "user", content: "x" }], context)!.role).toBe("user");
  expect(both.convert([{ type: "ai", content: "x" }], context)!.role).toBe("assistant");
  expect(both.joins({ type: "tool" }, { type: "ai" })).toBe(true);
  expect(both.joins({ role: "assistant" }, { role: "assistant" })).toBe(false);
});

test("messages of chat models' agents: what was cut short, what people are to answer, and branches", () => {
  const context = { id: "m", overlay: EMPTY_OVERLAY };
  const converter = stateConverter();
  const more = { createdAt: "2026-01-01T00:00:00Z", metadata: { custom: {} } };
  const call = { type: "tool-call", toolCallId: "c", toolName: "pick", args: { of: 52 }, argsText: '{"of": 52}' };
  const answer = (status: Json, part: Json = call) =>
    converter.convert([{ id: "a", role: "assistant", content: [part], status, ...more }], context)!;
  expect(answer({ type: "complete", reason: "unknown" }).content).toMatchObject([{ interrupt: { type: "human", payload: { of: 52 } } }]);
  expect(answer({ type: "complete", reason: "unknown" }, { ...call, result: 7 }).content).toEqual([{ ...call, result: 7, isError: false }]);
  for (const status of [{ type: "running" }, { type: "incomplete", reason: "cancelled" }])
    expect((answer(status).content as object[])[0]).not.toHaveProperty("interrupt");
  expect(answer({ type: "incomplete", reason: "cancelled" }).status).toEqual({ type: "incomplete", reason: "cancelled" });
  expect(answer({ type: "incomplete", reason: "odd", error: "no" }).status).toEqual({ type: "incomplete", reason: "other", error: "no" });
  expect(answer({ type: "complete", reason: "unknown" })).not.toHaveProperty("status");

  const user = { id: "u", role: "user", content: [], ...more };
  expect(converter.branches!({ messages: [user], branches: { u: ["t", "u"] } })).toEqual({ u: ["t", "u"] });
  expect(converter.branches!({ messages: [user] })).toEqual({});
  expect(converter.branches!({ messages: [{ id: "u", role: "user", content: "x" }], branches: { u: ["t", "u"] } })).toBeUndefined();
  expect(converter.branches!({ messages: [{ id: "u", type: "human", content: "x" }] })).toEqual({});
  expect(converter.branches!(null)).toBeUndefined();
});
