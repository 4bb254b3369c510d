import { expect, test } from "vitest";
import { copyIn } from "../src/index.js";

const refusal = (value: unknown, depth?: number): string => {
  try {
    copyIn(value, "command", depth);
  } catch (error) {
    return `${(error as { code: string }).code} ${(error as { field: string }).field}`;
  }
  return "accepted";
};

test("a copy shares nothing and leaves out what is undefined", () => {
  const value = { a: [{ b: 1 }], c: undefined, d: -0 };
  const copy = copyIn(value, "command") as { a: object[]; d: number };
  expect(copy).toEqual({ a: [{ b: 1 }], d: 0 });
  expect(Object.is(copy.d, 0)).toBe(true);
  expect(Object.keys(copy)).toEqual(["a", "d"]);
  expect(copy.a[0]).not.toBe(value.a[0]);
});

test.each([
  [NaN, "not-finite command"],
  [{ a: [Infinity] }, "not-finite command.a.0"],
  [2 ** 53, "integer-range command"],
  [-(2 ** 53), "integer-range command"],
  [2 ** 53 - 1, "accepted"],
  [1e300, "accepted"],
  ["\ud800", "invalid-unicode command"],
  ["\ud83d\ude00", "accepted"],
  [{ "\udc00": 1 }, "invalid-unicode command"],
  [JSON.parse('{"__proto__": 1}'), "forbidden-key command.__proto__"],
  [{ a: 1n }, "unsupported-type command.a"],
  [{ a: new Date(0) }, "unsupported-type command.a"],
  [{ a: () => 1 }, "unsupported-type command.a"],
  [undefined, "unsupported-type command"],
])("%o: %s", (value, expected) => {
  expect(refusal(value)).toBe(expected);
});

test("what is nested too deep, cycles included, is refused", () => {
  const cycle: unknown[] = [];
  cycle.push(cycle);
  expect(refusal(cycle, 3)).toBe("too-deep command.0.0.0");
  expect(refusal([[1]], 2)).toBe("accepted");
});
