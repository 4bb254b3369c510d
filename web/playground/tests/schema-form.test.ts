import type { JsonObject } from "@threadwire/client";
import { expect, test } from "vitest";
import { commandForms, initialText, readField } from "../src/inspector/schema-form.js";

const SCHEMA = {
  anyOf: [{ $ref: "#/$defs/AddMessage" }, { $ref: "#/$defs/Book" }],
  $defs: {
    AddMessage: { type: "object", properties: { type: { enum: ["add-message"] }, message: { type: "object" } }, required: ["type", "message"] },
    Kind: { enum: ["window", "aisle"] },
    Book: {
      description: "Books a seat.",
      type: "object",
      properties: {
        type: { const: "book" },
        name: { type: "string", minLength: 1, maxLength: 5 },
        seats: { type: "integer", default: 1 },
        kind: { $ref: "#/$defs/Kind" },
        vip: { type: "boolean", default: true },
        note: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
        tags: { type: "array", items: { type: "string" } },
      },
      required: ["type", "name", "kind", "tags"],
    },
  },
} as unknown as JsonObject;

const book = commandForms(SCHEMA)[0]!;
const field = (name: string) => book.fields.find((each) => each.name === name)!;

test("an agent's own commands come first, with a field for each property", () => {
  expect(commandForms(SCHEMA).map((form) => form.type)).toEqual(["book", "add-message"]);
  expect(book.description).toBe("Books a seat.");
  expect(book.fields.map(({ name, kind, required, nullable }) => [name, kind, required, nullable])).toEqual([
    ["name", "text", true, false],
    ["seats", "integer", false, false],
    ["kind", "choice", true, false],
    ["vip", "boolean", false, false],
    ["note", "text", false, true],
    ["tags", "json", true, false],
  ]);
  expect(book.fields.map(initialText)).toEqual(["", "1", '"window"', "true", "", "[]"]);
});

test.each([
  ["name", "", { error: "is missing" }],
  ["name", "toolong", { error: "is longer than 5 characters" }],
  ["name", "Ada", { value: "Ada" }],
  ["seats", "1.5", { error: "is no whole number" }],
  ["seats", "x", { error: "is no number" }],
  ["seats", "3", { value: 3 }],
  ["seats", "", {}],
  ["kind", '"aisle"', { value: "aisle" }],
  ["vip", "false", { value: false }],
  ["note", "", {}],
  ["tags", "[", { error: "is no JSON" }],
  ["tags", '["a"]', { value: ["a"] }],
])("%s: %j", (name, text, expected) => {
  expect(readField(field(name), text)).toEqual(expected);
});

test("nothing comes of what is no schema", () => {
  expect(commandForms(undefined)).toEqual([]);
  expect(commandForms({ anyOf: [{ $ref: "#/$defs/None" }, 5, {}] } as unknown as JsonObject)).toEqual([]);
});
