/** The vectors of the specification against this implementation. */

import { readFileSync } from "node:fs";
import { decode } from "@msgpack/msgpack";
import { describe, expect, test } from "vitest";
import {
  type ClientFrame,
  type Encoding,
  InvalidOperation,
  type Json,
  type Operation,
  Replica,
  type ServerFrame,
  apply,
  canonical,
  decodeMessage,
  encodeFrame,
  stateHash,
} from "../src/index.js";
import { baseOf } from "../src/frames.js";

interface Case {
  [key: string]: never;
}
interface Titled {
  section: string | string[];
  comment: string;
}

function vectors<T>(name: string): (T & Titled)[] {
  const url = new URL(`../../../../protocol-spec/vectors/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(url, "utf8")) as (T & Titled)[];
}
const title = ({ section, comment }: Titled): string => `${String(section)}: ${comment}`;

const freeze = <T>(value: T): T => {
  if (typeof value === "object" && value !== null) Object.values(value).forEach(freeze);
  return Object.freeze(value);
};

describe("operations", () => {
  interface OperationCase {
    state: Json;
    ops: Operation[];
    expected?: Json;
    error?: string;
    field?: string;
  }
  for (const each of vectors<OperationCase>("operations")) {
    test(title(each), () => {
      const { state, ops } = freeze(each);
      if (each.error === undefined) {
        expect(canonical(apply(state, ops))).toBe(canonical(each.expected as Json));
        return;
      }
      let refused: unknown;
      try {
        apply(state, ops);
      } catch (error) {
        refused = error;
      }
      expect(refused).toBeInstanceOf(InvalidOperation);
      expect((refused as InvalidOperation).code).toBe(each.error);
      if (each.field !== undefined) expect((refused as InvalidOperation).field).toBe(each.field);
    });
  }
});

describe("canonical forms", () => {
  for (const each of vectors<{ json: string[]; canonical: string; hash: string }>("canonical")) {
    test(title(each), () => {
      for (const text of each.json) {
        const value = JSON.parse(text) as Json;
        expect(canonical(value)).toBe(each.canonical);
        expect(stateHash(value)).toBe(each.hash);
      }
    });
  }
});

describe("merged and lowered operations lead to the same state", () => {
  interface MergeCase {
    state: Json;
    ops: Operation[];
    repeat?: number;
    expected: Json;
    lowered?: Operation[];
  }
  for (const name of ["merge", "lowering"]) {
    for (const each of vectors<MergeCase>(name)) {
      test(`${name} ${title(each)}`, () => {
        const ops = Array.from({ length: each.repeat ?? 1 }, () => each.ops).flat();
        expect(canonical(apply(freeze(each.state), ops))).toBe(canonical(each.expected));
        if (each.lowered) expect(canonical(apply(each.state, each.lowered))).toBe(canonical(each.expected));
      });
    }
  }
});

describe("differences", () => {
  for (const each of vectors<{ old: Json; new: Json; ops?: Operation[] }>("diff").filter((each) => each.ops)) {
    test(title(each), () => {
      expect(canonical(apply(freeze(each.old), each.ops!))).toBe(canonical(each.new));
    });
  }
});

describe("the replica rule", () => {
  interface ReplicaCase {
    replica: { epoch: number; seq: number; state: Json } | null;
    frames: ServerFrame[];
    expected: { epoch: number; seq: number; state: Json } | null;
    reopen: string | null;
  }
  for (const each of vectors<ReplicaCase>("replica")) {
    for (const eager of [true, false]) {
      test(`${title(each)} (${eager ? "settled at once" : "settled at the end"})`, () => {
        const replica = new Replica();
        let reopen: string | null = null;
        const note = (outcome: string): void => {
          if (outcome !== "applied") reopen = replica.since === null ? "snapshot" : "since";
        };
        if (each.replica) replica.snapshot({ type: "snapshot", thread: "t1", run: null, ...each.replica });
        for (const frame of freeze(each.frames)) {
          if (frame.type === "snapshot") note(replica.snapshot(frame));
          else if (frame.type === "update") note(replica.update(frame));
          if (eager) note(replica.settle());
        }
        note(replica.settle());
        expect(reopen).toBe(each.reopen);
        expect(replica.position).toEqual(each.expected && { epoch: each.expected.epoch, seq: each.expected.seq });
        if (each.expected) expect(canonical(replica.state)).toBe(canonical(each.expected.state));
      });
    }
  }
});

interface FrameCase {
  from: string;
  json?: string;
  json_hex?: string;
  msgpack?: string;
  msgpack_text?: string;
  frames?: (Case & { error?: string })[];
  error?: string;
}
const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));

describe("frames from servers", () => {
  for (const each of vectors<FrameCase>("frames").filter((each) => each.from === "server")) {
    test(`${title(each)} (${each.json ? "json" : "msgpack"})`, () => {
      const encoding: Encoding = each.json === undefined ? "msgpack" : "json";
      const frames = decodeMessage(each.json ?? bytes(each.msgpack!), encoding);
      expect(frames).toHaveLength(each.frames!.length);
      for (const [index, frame] of frames.entries()) expect(frame).toMatchObject(each.frames![index]!);
      for (const frame of frames) if (frame.type === "update") expect(baseOf(frame)).toBeTypeOf("number");
    });
  }
});

describe("frames from clients are written as the vectors have them", () => {
  const good = vectors<FrameCase>("frames").filter(
    (each) => each.from === "client" && (each.json || each.msgpack) && each.frames?.every((frame) => !frame.error),
  );
  for (const each of good) {
    test(title(each), () => {
      for (const frame of each.frames!) {
        const json = encodeFrame(frame as unknown as ClientFrame, "json") as string;
        expect(JSON.parse(json)).toEqual(frame);
        const packed = encodeFrame(frame as unknown as ClientFrame, "msgpack") as Uint8Array;
        expect(canonical(decode(packed) as Json)).toBe(canonical(frame as unknown as Json));
      }
    });
  }
});
