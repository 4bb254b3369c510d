/** Messages of the form `{id, role, content}`, as agents that are plain functions write them. */

import type { ThreadMessageLike } from "@assistant-ui/react";
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
});

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
      const parts = Array.isArray(content)
        ? arrayOf(content).flatMap((part): Part[] =>
            isObject(part) && part["type"] === "tool-call"
              ? [toolCall(part, (call, args) => withOverlay(call, args, overlay, taken))]
              : contentParts([part], "assistant"),
          )
        : contentParts(content, "assistant");
      return { role: "assistant", id, content: parts };
    }
    default:
      return null;
  }
}

function toolCall(part: JsonObject, overlaid: (part: ToolCallPart, args: Json) => ToolCallPart): ToolCallPart {
  const args = objectOf(part["args"]) ?? {};
  const call: ToolCallPart = {
    type: "tool-call",
    toolCallId: textOf(part["toolCallId"]) ?? "",
    toolName: textOf(part["toolName"]) ?? "tool",
    args,
    argsText: textOf(part["argsText"]) ?? JSON.stringify(args),
  };
  return part["result"] === undefined
    ? overlaid(call, args)
    : { ...call, result: part["result"], isError: part["isError"] === true };
}
