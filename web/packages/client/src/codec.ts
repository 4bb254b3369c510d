/** Frames to messages and back, in JSON and MessagePack. Spec: PROTOCOL.md §5. */

import { decode, encode } from "@msgpack/msgpack";
import { ProtocolError } from "./errors.js";
import type { ClientFrame, Encoding, ServerFrame } from "./frames.js";
import { type Json, isObject } from "./json.js";
import type { Operation, Path } from "./operations.js";

/** The fields without which a frame can't be followed, and their forms; others are looked at where they are used. */
const REQUIRED: { readonly [type: string]: { readonly [field: string]: (value: unknown) => boolean } } = (() => {
  const text = (value: unknown): boolean => typeof value === "string";
  const whole = (value: unknown): boolean => Number.isSafeInteger(value);
  const run = (value: unknown): boolean => value === null || (isObject(value) && text(value["id"]) && text(value["status"]));
  return {
    welcome: { protocol: whole, agents: Array.isArray, limits: isObject },
    snapshot: { thread: text, epoch: whole, seq: whole, state: (value: unknown) => value !== undefined, run },
    update: { thread: text, epoch: whole, seq: whole, ops: Array.isArray },
    run: { thread: text, run },
    command: { thread: text, id: text, status: text },
    heartbeat: { heads: isObject },
    pong: {},
    tool: { thread: text, tool_call_id: text, name: text },
    error: { code: text, message: text },
    goodbye: { reconnect: (value: unknown) => typeof value === "boolean" },
  };
})();

/** One message that holds one frame. */
export function encodeFrame(frame: ClientFrame, encoding: Encoding): string | Uint8Array<ArrayBuffer> {
  return encoding === "json" ? JSON.stringify(frame) : encode(frame, { ignoreUndefined: true });
}

/** The length of a message in bytes. */
export const messageBytes = (message: string | Uint8Array): number =>
  typeof message === "string" ? utf8Length(message) : message.byteLength;

/**
 * The frames of a message from a server, without those of types that this client doesn't know.
 *
 * @throws ProtocolError where it is no message of this protocol.
 */
export function decodeMessage(data: string | ArrayBuffer | Uint8Array, encoding: Encoding): ServerFrame[] {
  if ((typeof data === "string") !== (encoding === "json")) {
    throw new ProtocolError("wrong-encoding", `not a message in ${encoding}`);
  }
  let message: unknown;
  try {
    message = typeof data === "string" ? JSON.parse(data) : decode(data);
  } catch (error) {
    throw new ProtocolError("malformed", `not a message: ${error instanceof Error ? error.message : String(error)}`);
  }
  const frames: ServerFrame[] = [];
  for (const item of Array.isArray(message) ? message : [message]) {
    if (!isObject(item) || typeof item["type"] !== "string") throw new ProtocolError("malformed", "not a frame");
    const type: string = item["type"];
    if (!Object.hasOwn(REQUIRED, type)) continue;
    for (const [field, fits] of Object.entries(REQUIRED[type]!)) {
      if (!fits(item[field])) throw new ProtocolError("malformed", `a ${type} frame without a proper ${field}`, field);
    }
    const frame = item as unknown as ServerFrame;
    if (frame.type === "update" && encoding === "msgpack") {
      frames.push({ ...frame, ops: (frame.ops as unknown as Json[]).map(operationFromArray) });
    } else if (frame.type === "pong" && frame.nonce === undefined) {
      frames.push({ ...frame, nonce: null });
    } else {
      frames.push(frame);
    }
  }
  return frames;
}

/** An operation from its MessagePack form, `[type, path, value...]`. */
function operationFromArray(array: Json): Operation {
  if (Array.isArray(array) && Array.isArray(array[1])) {
    const path = array[1] as Path;
    switch (array[0]) {
      case "set":
        if (array.length > 2) return { type: "set", path, value: array[2] };
        break;
      case "append-text":
        if (typeof array[2] === "string") return { type: "append-text", path, value: array[2] };
        break;
      case "delete":
        return { type: "delete", path };
      case "splice":
        return { type: "splice", path, index: array[2], delete_count: array[3], items: array[4] };
    }
  }
  throw new ProtocolError("malformed", "an array that is no operation");
}

function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // A surrogate pair is two units and four bytes.
    if (unit >= 0x80) length += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return length;
}
