/**
 * Messages of the form `{id, role, content}`, as agents that are plain functions write them; and those of
 * assistant-ui, which have a `status` and `metadata` besides, as agents of chat models write them.
 */

import type { MessageStatus, ThreadMessageLike } from "@assistant-ui/react";
import { type Json, type JsonObject, isObject } from "@threadwire/client";
import { type ConvertContext, type Converter, type Part, type ToolCallPart, arrayOf, messagesUnder, objectOf, textOf } from "./converter.js";
import { withOverlay } from "./langchain.js";
import type { Approval } from "./overlay.js";
import { contentParts } from "./parts.js";

/**
 * A converter for a state with messages `{id, role, content}` under `key`.
 *
 * `role` is `user`, `assistant` or `system`; `content` (or `parts`) is a string or an array of parts, which are
 * those of `add-message` (PROTOCOL.md §7.6), `reasoning`, and `tool-call` with `toolCallId`, `toolName`, `args`, `result?`.
 */
export const messagesConverter = (key = "messages"): Converter => ({
  messages: (state) => messagesUnder(state, key),
  joins: () => false,
  convert: convertMessage,
  branches: (state) => messageBranches(state, key),
});

/** Only the agents of chat models keep what was there before; functions would take an edit for one more message. */
export function messageBranches(state: Json, key: string): JsonObject | undefined {
  const given = isObject(state) ? objectOf(objectOf(state["threadwire"])?.["branches"]) : undefined;
  if (given !== undefined) return given;
  const first = messagesUnder(state, key)[0];
  if (!isObject(state) || !isObject(first) || !isObject(first["metadata"]) || first["createdAt"] === undefined) return undefined;
  return objectOf(state["branches"]) ?? {};
}

export function convertMessage(messages: readonly Json[], { id, overlay }: ConvertContext): ThreadMessageLike | null {
  const message = messages[0];
  if (!isObject(message)) return null;
  const content = message["content"] ?? message["parts"];
  switch (message["role"]) {
    case "user":
    case "human":
      return { role: "user", id, content: contentParts(content, "user") };
    case "system": {
      const text = contentParts(content, "user").map((part) => (part.type === "text" ? part.text : ""));
      return text.length === 0 ? null : { role: "system", id, content: [{ type: "text", text: text.join("\n") }] };
    }
    case "assistant":
    case "ai": {
      const taken = new Set<Approval>();
      const status = objectOf(message["status"]);
      // A call that was left open is answered by people, once nothing is written any more.
      const waits = status?.["type"] === "complete" || status?.["type"] === "requires-action";
      const parts = Array.isArray(content)
        ? arrayOf(content).flatMap((part): Part[] =>
            isObject(part) && part["type"] === "tool-call"
              ? [toolCall(part, waits, (call, args) => withOverlay(call, args, overlay, taken))]
              : contentParts([part], "assistant"),
          )
        : contentParts(content, "assistant");
      return { role: "assistant", id, content: parts, ...(status?.["type"] === "incomplete" ? { status: incomplete(status) } : {}) };
    }
    default:
      return null;
  }
}

const REASONS = ["cancelled", "tool-calls", "length", "content-filter", "error"] as const;

function incomplete({ reason, error }: JsonObject): MessageStatus {
  return { type: "incomplete", reason: REASONS.find((each) => each === reason) ?? "other", ...(error === undefined ? {} : { error }) };
}

function toolCall(part: JsonObject, waits: boolean, overlaid: (part: ToolCallPart, args: Json) => ToolCallPart): ToolCallPart {
  const args = objectOf(part["args"]) ?? {};
  const call: ToolCallPart = {
    type: "tool-call",
    toolCallId: textOf(part["toolCallId"]) ?? "",
    toolName: textOf(part["toolName"]) ?? "tool",
    args,
    argsText: textOf(part["argsText"]) ?? JSON.stringify(args),
    ...(waits ? { interrupt: { type: "human", payload: args } } : {}),
  };
  return part["result"] === undefined
    ? overlaid(call, args)
    : { ...withoutQuestion(call), result: part["result"], isError: part["isError"] === true };
}

function withoutQuestion({ interrupt: _, ...call }: ToolCallPart): ToolCallPart {
  return call;
}
