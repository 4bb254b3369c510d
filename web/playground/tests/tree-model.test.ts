import { type Json, apply } from "@threadwire/client";
import { expect, test } from "vitest";
import { Changes, Openness, differences, flatten, pathText, preview, valueAt } from "../src/inspector/tree-model.js";

const STATE: Json = { plan: { todos: [{ title: "a", done: false }], n: 1 }, note: "hi", empty: {} };
const names = (openness: Openness): string[] => flatten(STATE, openness).map((row) => pathText(row.path));

test("rows are what is open, and know where they stand", () => {
  expect(names(new Openness(1))).toEqual(["(state)", "plan", "note", "empty"]);
  expect(names(new Openness(1).with('["plan"]', true))).toEqual(["(state)", "plan", "plan.todos", "plan.n", "note", "empty"]);
  expect(names(new Openness(9).with("[]", false))).toEqual(["(state)"]);
  expect(names(new Openness(0).towards(["plan", "todos", 0, "title"]))).toContain("plan.todos.0.title");
  expect(flatten(STATE, new Openness(1))[2]).toMatchObject({ position: 2, siblings: 3, depth: 1, kind: "string" });
});

test("a large container is closed until somebody opens it", () => {
  const many: Json = { list: Array.from({ length: 5000 }, (_, index): Json => index) };
  expect(flatten(many, new Openness(5))).toHaveLength(2);
  expect(flatten(many, new Openness(5).with('["list"]', true))).toHaveLength(5002);
});

test("what changed is marked where it is to be seen, and nothing else", () => {
  const marked = (openness: Openness, next: Json): string[] => {
    const changes = new Changes();
    changes.update(STATE, flatten(STATE, openness), 0);
    const rows = flatten(next, openness);
    changes.update(next, rows, 1);
    return rows.filter((row) => changes.at(row.id) === 1).map((row) => pathText(row.path));
  };
  const next = apply(STATE, [{ type: "set", path: ["plan", "todos", 0, "done"], value: true }]);
  expect(marked(new Openness(9), next)).toEqual(["plan.todos.0.done"]);
  expect(marked(new Openness(1), next)).toEqual(["plan"]);
  expect(marked(new Openness(9), apply(STATE, [{ type: "set", path: ["more"], value: [1] }]))).toEqual(["more", "more.0"]);
  expect(marked(new Openness(9), STATE)).toEqual([]);
});

test("the newest change is found among the rows", () => {
  const changes = new Changes();
  const rows = (value: Json) => flatten(value, new Openness(9));
  changes.update(STATE, rows(STATE), 0);
  expect(changes.last(rows(STATE))).toBe(-1);
  const next = apply(STATE, [{ type: "append-text", path: ["note"], value: "!" }, { type: "set", path: ["plan", "n"], value: 2 }]);
  changes.update(next, rows(next), 5);
  expect(pathText(rows(next)[changes.last(rows(next))]!.path)).toBe("note");
});

test("differences name what came, went and changed", () => {
  const next = apply(STATE, [
    { type: "append-text", path: ["note"], value: "!" },
    { type: "delete", path: ["empty"] },
    { type: "splice", path: ["plan", "todos"], index: 1, delete_count: 0, items: [{ title: "b" }] },
  ]);
  expect(differences(STATE, next).map(({ path, kind }) => [pathText(path), kind])).toEqual([
    ["plan.todos.1", "added"],
    ["note", "changed"],
    ["empty", "removed"],
  ]);
  expect(differences(STATE, STATE)).toEqual([]);
});

test("values on one line", () => {
  expect([null, true, 1, "a\nb", [], [1], {}, { a: 1 }].map((value) => preview(value as Json))).toEqual(["null", "true", "1", '"a\\nb"', "[]", "[1]", "{}", "{a: 1}"]);
  expect(preview("x".repeat(200), 10)).toHaveLength(13);
  expect(valueAt(STATE, ["plan", "toString"])).toBeUndefined();
});
