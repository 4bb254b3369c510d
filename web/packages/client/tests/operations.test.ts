import { expect, test } from "vitest";
import { type Json, apply } from "../src/index.js";

type Tree = { messages: { id: string; content: string }[]; plan: object };
const state = { messages: [{ id: "a", content: "x" }, { id: "b", content: "" }], plan: { goal: "g" } };

test("what an update leaves alone is the same object before and after", () => {
  const after = apply(state, [
    { type: "append-text", path: ["messages", "1", "content"], value: "hi" },
    { type: "append-text", path: ["messages", 1, "content"], value: " you" },
  ]) as unknown as Tree;
  expect(after.messages[1]!.content).toBe("hi you");
  expect(after.plan).toBe(state.plan);
  expect(after.messages[0]).toBe(state.messages[0]);
  expect(after.messages).not.toBe(state.messages);
  expect(state.messages[1]!.content).toBe("");
});

test("values of operations are shared, and later operations leave them as they were", () => {
  const value = { list: [1] };
  const after = apply({}, [
    { type: "set", path: ["a"], value },
    { type: "splice", path: ["a", "list"], index: 1, delete_count: 0, items: [2] },
  ]);
  expect(after).toEqual({ a: { list: [1, 2] } });
  expect(value).toEqual({ list: [1] });
});

test("names that objects inherit are keys like any other", () => {
  expect(() => apply({}, [{ type: "append-text", path: ["toString"], value: "x" }])).toThrow("nothing is there");
  expect(apply({}, [{ type: "set", path: ["hasOwnProperty", "valueOf"], value: 1 }])).toEqual({
    hasOwnProperty: { valueOf: 1 },
  });
});

test("a splice of very many items is one", () => {
  const items = Array.from({ length: 300_000 }, (_, index): Json => index);
  const after = apply(["a", "b"], [{ type: "splice", path: [], index: 1, delete_count: 0, items }]) as Json[];
  expect([after.length, after[0], after[300_000], after[300_001]]).toEqual([300_002, "a", 299_999, "b"]);
});
