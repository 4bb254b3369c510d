/** The one spelling that equal values share, and its hash. Spec: PROTOCOL.md §2.7 and §2.8. */

import { type Json, isObject } from "./json.js";
import { sha256 } from "./sha256.js";

/** The RFC 8785 form. JavaScript's own spelling of numbers and strings is the one that it prescribes. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (isObject(value)) {
    // The default order of `sort` is that of UTF-16 code units, as RFC 8785 wants it.
    const members = Object.keys(value).sort();
    return `{${members.map((key) => `${JSON.stringify(key)}:${canonical(value[key] as Json)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

export const equal = (a: Json, b: Json): boolean => a === b || canonical(a) === canonical(b);

/** 64 hexadecimal digits. */
export const stateHash = (state: Json): string => sha256(new TextEncoder().encode(canonical(state)));
