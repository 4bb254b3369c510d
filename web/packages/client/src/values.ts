/** Values on their way to a server, checked and copied. Spec: PROTOCOL.md §2. */

import { InvalidValue } from "./errors.js";
import { FORBIDDEN_KEYS, type Json } from "./json.js";

const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * A plain copy of `value`; members that are undefined are left out, as in `JSON.stringify`.
 *
 * @param name what the value is, for the error's `field`, such as `command`
 * @throws InvalidValue for what JSON would lose or change without a word: NaN, large integers, dates, cycles.
 */
export function copyIn(value: unknown, name: string, maxDepth = 100): Json {
  switch (typeof value) {
    case "string":
      if (LONE_SURROGATE.test(value)) throw new InvalidValue("invalid-unicode", "a lone surrogate", name);
      return value;
    case "boolean":
      return value;
    case "number":
      if (!Number.isFinite(value)) throw new InvalidValue("not-finite", `${value} is no JSON number`, name);
      // From 1e21 on JSON writes an exponent, and with it no integer.
      if (Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21) {
        throw new InvalidValue("integer-range", "an integer outside ±(2^53-1)", name);
      }
      return value === 0 ? 0 : value;
    case "object":
      break;
    default:
      throw new InvalidValue("unsupported-type", `a ${typeof value} is no JSON value`, name);
  }
  if (value === null) return null;
  if (maxDepth <= 0) throw new InvalidValue("too-deep", "nested too deep", name);
  if (Array.isArray(value)) return value.map((item, index) => copyIn(item, `${name}.${index}`, maxDepth - 1));
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const kind = (value as { constructor?: { name?: string } }).constructor?.name ?? "object";
    throw new InvalidValue("unsupported-type", `a ${kind} is no JSON value; convert it first`, name);
  }
  const copy: { [key: string]: Json } = {};
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    if (FORBIDDEN_KEYS.has(key)) throw new InvalidValue("forbidden-key", `the key "${key}" is refused`, `${name}.${key}`);
    if (LONE_SURROGATE.test(key)) throw new InvalidValue("invalid-unicode", "a lone surrogate in a key", name);
    copy[key] = copyIn(item, `${name}.${key}`, maxDepth - 1);
  }
  return copy;
}
