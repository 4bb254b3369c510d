/**
 * The four operations on a state. `apply` leaves its input as it was and shares all that is
 * untouched with its result, so an unchanged message is the same object before and after.
 *
 * Spec: PROTOCOL.md §3.
 */

import { InvalidOperation } from "./errors.js";
import { FORBIDDEN_KEYS, type Json, isObject } from "./json.js";

export type Segment = string | number;
export type Path = readonly Segment[];

export interface SetOperation {
  readonly type: "set";
  readonly path: Path;
  readonly value: Json;
}
export interface AppendTextOperation {
  readonly type: "append-text";
  readonly path: Path;
  readonly value: string;
}
export interface DeleteOperation {
  readonly type: "delete";
  readonly path: Path;
}
export interface SpliceOperation {
  readonly type: "splice";
  readonly path: Path;
  readonly index: number;
  readonly delete_count: number;
  readonly items: readonly Json[];
}
export type Operation = SetOperation | AppendTextOperation | DeleteOperation | SpliceOperation;

type MutableObject = { [key: string]: Json };
type Container = Json[] | MutableObject;

const TYPES: ReadonlySet<string> = new Set(["set", "append-text", "delete", "splice"]);
const isSegment = (value: unknown): boolean => typeof value === "string" || Number.isInteger(value);
const INDEX = /^(?:0|[1-9][0-9]{0,15})$/;

/** A path as the `field` of an error: `state.messages.0.content`. */
export const formatPath = (path: Path): string => ["state", ...path].join(".");

/**
 * The state after `operations`.
 *
 * @throws InvalidOperation where one of them doesn't fit; then none is applied.
 */
export function apply(state: Json, operations: readonly Operation[]): Json {
  const batch = new Batch(state);
  for (const operation of operations) batch.edit(operation);
  return batch.root;
}

/** One batch of edits: containers that it has copied or made are edited in place from then on. */
class Batch {
  root: Json;
  readonly #owned = new Set<Container>();

  constructor(root: Json) {
    this.root = root;
  }

  edit(operation: Operation): void {
    const path = operation.path;
    if (!TYPES.has(operation.type)) throw invalid("an operation of an unknown type");
    if (!Array.isArray(path) || !path.every(isSegment)) throw invalid("an operation without a proper path");
    if (operation.type === "splice") {
      this.#splice(this.#descend(path, path, false), operation);
      return;
    }
    const leaf = path[path.length - 1];
    if (leaf === undefined) {
      this.#editRoot(operation);
      return;
    }
    const container = this.#descend(path.slice(0, -1), path, operation.type === "set");
    if (Array.isArray(container)) editArray(container, arrayIndex(leaf, path), operation);
    else editObject(container, objectKey(leaf, path), operation);
  }

  #editRoot(operation: Operation): void {
    switch (operation.type) {
      case "set":
        this.root = given(operation.value, operation);
        return;
      case "append-text":
        if (typeof this.root !== "string") throw new InvalidOperation("not-a-string", "the state is no string", "state");
        this.root += text(operation.value);
        return;
      case "delete":
        throw new InvalidOperation("invalid-path", "the root cannot be deleted", "state");
    }
  }

  /** The container at `parents`, owned all the way down. */
  #descend(parents: Path, path: Path, create: boolean): Container {
    if (!isContainer(this.root)) {
      if (!(create && this.root === null)) throw refused("invalid-path", "the state is no container", path);
      for (const key of path) objectKey(key, path);
      this.root = this.#made({});
    }
    let container = this.#own(this.root as Container);
    this.root = container;
    for (const [depth, segment] of parents.entries()) {
      let child: Json | undefined;
      let key: Segment;
      if (Array.isArray(container)) {
        key = arrayIndex(segment, path);
        if (key > container.length || (key === container.length && !create)) {
          throw refused("index-out-of-range", `index ${key} of ${container.length} items`, path.slice(0, depth + 1));
        }
        child = container[key];
      } else {
        key = objectKey(segment, path);
        child = Object.hasOwn(container, key) ? container[key] : undefined;
      }
      let next: Container;
      if (isContainer(child)) {
        next = this.#own(child as Container);
      } else if (child === undefined || child === null) {
        if (!create) throw refused("path-missing", "nothing is there", path.slice(0, depth + 1));
        for (const below of path.slice(depth + 1)) objectKey(below, path);
        next = this.#made({});
      } else {
        throw refused("invalid-path", "no container is there", path.slice(0, depth + 1));
      }
      if (next !== child) (container as MutableObject)[key] = next;
      container = next;
    }
    return container;
  }

  #own(container: Container): Container {
    if (this.#owned.has(container)) return container;
    return this.#made(Array.isArray(container) ? container.slice() : { ...container });
  }

  #made(container: Container): Container {
    this.#owned.add(container);
    return container;
  }

  #splice(container: Container, operation: SpliceOperation): void {
    const { path, index, delete_count: count, items } = operation;
    if (!Number.isInteger(index) || !Number.isInteger(count) || !Array.isArray(items)) {
      throw invalid("a splice with a wrong field");
    }
    if (!Array.isArray(container)) throw refused("invalid-path", "splice needs an array", path);
    if (index < 0 || index > container.length) {
      throw refused("index-out-of-range", `index ${index} of ${container.length} items`, path);
    }
    if (count < 0 || count > container.length - index) {
      throw refused("index-out-of-range", `${count} items from ${index} of ${container.length}`, path);
    }
    if (items.length < 10_000) container.splice(index, count, ...items);
    else {
      // More arguments than a call can take: the tail is moved by hand.
      const tail = container.slice(index + count);
      container.length = index;
      for (const item of items) container.push(item);
      for (const item of tail) container.push(item);
    }
  }
}

function editObject(container: MutableObject, key: string, operation: Operation): void {
  if (operation.type === "set") {
    container[key] = given(operation.value, operation);
    return;
  }
  if (!Object.hasOwn(container, key)) throw refused("path-missing", "nothing is there", operation.path);
  if (operation.type === "delete") delete container[key];
  else if (operation.type === "append-text") container[key] = appended(container[key], operation);
}

function editArray(container: Json[], index: number, operation: Operation): void {
  if (index > container.length || (index === container.length && operation.type !== "set")) {
    throw refused("index-out-of-range", `index ${index} of ${container.length} items`, operation.path);
  }
  if (operation.type === "set") container[index] = given(operation.value, operation);
  else if (operation.type === "delete") container.splice(index, 1);
  else if (operation.type === "append-text") container[index] = appended(container[index], operation);
}

function appended(before: Json | undefined, operation: AppendTextOperation): string {
  if (typeof before !== "string") throw refused("not-a-string", "append-text needs a string", operation.path);
  return before + text(operation.value);
}

function arrayIndex(segment: Segment, path: Path): number {
  if (typeof segment === "number" ? segment >= 0 : INDEX.test(segment)) {
    return Number(segment);
  }
  throw refused("invalid-path", `${JSON.stringify(segment)} is no array index`, path);
}

function objectKey(segment: Segment, path: Path): string {
  const key = String(segment);
  if (FORBIDDEN_KEYS.has(key)) throw refused("forbidden-key", `the key ${JSON.stringify(key)} is refused`, path);
  return key;
}

const isContainer = (value: Json | undefined): boolean => Array.isArray(value) || isObject(value);

function given(value: Json | undefined, operation: Operation): Json {
  if (value === undefined) throw invalid(`a ${operation.type} without a value`);
  return value;
}

function text(value: unknown): string {
  if (typeof value !== "string") throw invalid("an append-text whose value is no string");
  return value;
}

const refused = (code: string, message: string, path: Path): InvalidOperation =>
  new InvalidOperation(code, message, formatPath(path));

const invalid = (message: string): InvalidOperation => new InvalidOperation("invalid-operation", message);
