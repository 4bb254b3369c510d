/** A JSON value as the rows of a tree, with what has changed since the value before. */

import { type Json, formatPath, isObject } from "@threadwire/client";

export interface Row {
  /** The row's name among all: its path as JSON. */
  readonly id: string;
  readonly path: readonly (string | number)[];
  readonly depth: number;
  /** The key or index; null for the root. */
  readonly name: string | number | null;
  readonly value: Json;
  readonly kind: "object" | "array" | "string" | "number" | "boolean" | "null";
  /** Members of a container. */
  readonly size: number;
  readonly isOpen: boolean;
  /** Among its siblings, from 1 on, and how many there are. */
  readonly position: number;
  readonly siblings: number;
}

/** Which containers are open: those below a depth by default, and those that somebody has opened or closed. */
export class Openness {
  readonly #set: ReadonlyMap<string, boolean>;
  readonly #depth: number;

  constructor(depth = 2, set: ReadonlyMap<string, boolean> = new Map()) {
    this.#depth = depth;
    this.#set = set;
  }

  isOpen(id: string, depth: number, size: number): boolean {
    return this.#set.get(id) ?? (depth < this.#depth && size <= 100);
  }

  with(id: string, isOpen: boolean): Openness {
    return new Openness(this.#depth, new Map([...this.#set, [id, isOpen]]));
  }

  /** All containers on the way to a path are open. */
  towards(path: readonly (string | number)[]): Openness {
    const set = new Map(this.#set);
    for (let length = 0; length < path.length; length++) set.set(idOf(path.slice(0, length)), true);
    return new Openness(this.#depth, set);
  }

  /** As deep as fits a screen, from one level to three. */
  static fitting(value: Json): Openness {
    const fits = [3, 2].find((depth) => flatten(value, new Openness(depth)).length <= 40);
    return new Openness(fits ?? 1);
  }

  /** To a depth, everything is open, or nothing. */
  static all(depth: number): Openness {
    return new Openness(depth);
  }
}

export const idOf = (path: readonly (string | number)[]): string => JSON.stringify(path);

export function kindOf(value: Json): Row["kind"] {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value as "object" | "string" | "number" | "boolean";
}

/** So many rows are made at most: nobody scrolls further, and a closed container shows the rest. */
const MAX_ROWS = 50_000;

/** The rows of a value. A container that is closed is one row. */
export function flatten(root: Json, openness: Openness): Row[] {
  const rows: Row[] = [];
  const add = (value: Json, path: readonly (string | number)[], name: string | number | null, position: number, siblings: number): void => {
    if (rows.length >= MAX_ROWS) return;
    const kind = kindOf(value);
    const keys = isObject(value) ? Object.keys(value) : null;
    const size = keys?.length ?? (Array.isArray(value) ? value.length : 0);
    const id = idOf(path);
    const isOpen = size > 0 && openness.isOpen(id, path.length, size);
    rows.push({ id, path, depth: path.length, name, value, kind, size, isOpen, position, siblings });
    if (!isOpen) return;
    if (keys !== null) {
      for (const [index, key] of keys.entries()) add((value as { [key: string]: Json })[key] as Json, [...path, key], key, index + 1, size);
    } else {
      for (const [index, item] of (value as readonly Json[]).entries()) add(item, [...path, index], index, index + 1, size);
    }
  };
  add(root, [], null, 1, 1);
  return rows;
}

/** The value at a path, undefined where nothing is. */
export function valueAt(root: Json | undefined, path: readonly (string | number)[]): Json | undefined {
  let value: Json | undefined = root;
  for (const segment of path) {
    if (Array.isArray(value)) value = (value as readonly Json[])[Number(segment)];
    else if (isObject(value) && Object.hasOwn(value, String(segment))) value = value[String(segment)];
    else return undefined;
  }
  return value;
}

/**
 * Notes when rows changed. States share what didn't change, so looking is comparing identities, and
 * only where an open container has another identity does it go in.
 */
export class Changes {
  readonly #at = new Map<string, number>();
  #before: Json | undefined;

  /** Takes in a value of now; `rows` are those that are shown of it. */
  update(value: Json, rows: readonly Row[], now: number): void {
    const before = this.#before;
    this.#before = value;
    if (before === undefined || before === value) return;
    for (const [id, at] of this.#at) if (now - at > 5000) this.#at.delete(id);
    for (let index = 0; index < rows.length; index++) {
      const row = rows[index]!;
      const old = valueAt(before, row.path);
      if (old === row.value) {
        // The same object: nothing under it differs.
        while (index + 1 < rows.length && rows[index + 1]!.depth > row.depth) index++;
      } else if (!row.isOpen || old === undefined || kindOf(old) !== row.kind) {
        this.#at.set(row.id, now);
      }
    }
  }

  /** The index of the last row that the newest change is to be seen in; -1 where nothing has changed for long. */
  last(rows: readonly Row[]): number {
    const newest = Math.max(...this.#at.values());
    return rows.findLastIndex((row) => this.#at.get(row.id) === newest);
  }

  /** When the row changed last, undefined where that is long ago. */
  at(id: string): number | undefined {
    return this.#at.get(id);
  }
}

export interface Difference {
  readonly path: readonly (string | number)[];
  readonly kind: "added" | "removed" | "changed";
  readonly before: Json | undefined;
  readonly after: Json | undefined;
}

/** Where two values differ; a text that grew is one difference, as is a container that came or went. */
export function differences(before: Json, after: Json, limit = 500): Difference[] {
  const found: Difference[] = [];
  const compare = (a: Json | undefined, b: Json | undefined, path: readonly (string | number)[]): void => {
    if (a === b || found.length >= limit) return;
    if (a === undefined) found.push({ path, kind: "added", before: a, after: b });
    else if (b === undefined) found.push({ path, kind: "removed", before: a, after: b });
    else if (isObject(a) && isObject(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
        compare(Object.hasOwn(a, key) ? a[key] : undefined, Object.hasOwn(b, key) ? b[key] : undefined, [...path, key]);
      }
    } else if (Array.isArray(a) && Array.isArray(b)) {
      for (let index = 0; index < Math.max(a.length, b.length); index++) {
        compare((a as readonly Json[])[index], (b as readonly Json[])[index], [...path, index]);
      }
    } else found.push({ path, kind: "changed", before: a, after: b });
  };
  compare(before, after, []);
  return found;
}

/** A value on one line, of about so many characters. */
export function preview(value: Json | undefined, length = 80): string {
  if (value === undefined) return "";
  if (typeof value === "string") return JSON.stringify(value.length > length ? `${value.slice(0, length)}…` : value);
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `[${value.length}]`;
  if (isObject(value)) {
    let text = "";
    // Ids tell little, and would leave no room for what does.
    const isId = (key: string): boolean => /(?:^|_)id$/i.test(key);
    for (const [key, item] of Object.entries(value).sort(([a], [b]) => Number(isId(a)) - Number(isId(b)))) {
      if (text.length > length) return `{${text}, …}`;
      text += `${text === "" ? "" : ", "}${key}: ${isObject(item) && Object.keys(item).length > 0 ? "{…}" : preview(item, 24)}`;
    }
    return `{${text}}`;
  }
  return String(value);
}

/** A path as people write it: `messages.3.content`. */
export const pathText = (path: readonly (string | number)[]): string => formatPath(path).replace(/^state\.?/, "") || "(state)";
