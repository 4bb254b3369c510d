/** LangChain's messages, as a hosted graph keeps them. Spec: PROTOCOL.md §15.2. */

import type { ThreadMessageLike } from "@assistant-ui/react";
import { type Json, type JsonObject, isObject } from "@threadwire/client";
import { type ConvertContext, type Converter, type Part, type ToolCallPart, arrayOf, graphBranches, messagesUnder, objectOf, textOf } from "./converter.js";
import { type Approval, type Overlay, approvalFor } from "./overlay.js";
import { contentParts } from "./parts.js";

/** What a tool that is at work shows of itself, as the `artifact` of its part. */
export interface ToolProgress {
  readonly threadwire: { readonly status: string | undefined; readonly output: Json };
}

/** A converter for a state with LangChain's messages under `key`. */
export const langchainConverter = (key = "messages"): Converter => ({
  messages: (state) => messagesUnder(state, key),
  joins: joinsLangchain,
  convert: convertLangchain,
  branches: graphBranches,
});

const typeOf = (message: Json): string | undefined => (isObject(message) ? textOf(message["type"]) : undefined);
const isOutput = (type: string | undefined): boolean => type === "ai" || type === "AIMessageChunk" || type === "tool";

/** An answer, its tool calls' results and what follows from them are one message on the screen. */
export const joinsLangchain = (message: Json, first: Json): boolean => isOutput(typeOf(message)) && isOutput(typeOf(first));

export function convertLangchain(messages: readonly Json[], { id, overlay }: ConvertContext): ThreadMessageLike | null {
  const first = messages[0];
  if (!isObject(first)) return null;
  switch (first["type"]) {
    case "human":
      return { role: "user", id, content: userParts(first) };
    case "system":
    case "developer": {
      const text = contentParts(first["content"], "user").map((part) => (part.type === "text" ? part.text : ""));
      return text.length === 0 ? null : { role: "system", id, content: [{ type: "text", text: text.join("\n") }] };
    }
    case "ai":
    case "AIMessageChunk":
    case "tool":
      return { role: "assistant", id, ...answer(messages.filter(isObject), overlay) };
    default:
      return null;
  }
}

function userParts(message: JsonObject): Part[] {
  const parts = contentParts(message["content"], "user");
  // What is not for the model stands beside the content.
  const metadata = objectOf(objectOf(message["additional_kwargs"])?.["metadata"]);
  const filenames = objectOf(metadata?.["filenames"]) ?? {};
  const named = parts.map((part, index): Part => {
    const filename = textOf(filenames[String(index)]);
    return part.type === "image" && filename !== undefined ? { ...part, filename } : part;
  });
  const data = arrayOf(metadata?.["data"]).flatMap((each): Part[] => {
    const name = textOf(objectOf(each)?.["name"]);
    return name === undefined ? [] : [{ type: "data", name, data: objectOf(each)?.["data"] ?? null }];
  });
  return [...named, ...data];
}

function answer(
  messages: readonly JsonObject[],
  overlay: Overlay,
): Pick<ThreadMessageLike, "content"> & Partial<Pick<ThreadMessageLike, "status">> {
  const content: Part[] = [];
  const calls = new Map<string, number>();
  const taken = new Set<Approval>();
  let cut: string | undefined;
  for (const message of messages) {
    if (message["type"] === "tool") {
      const id = textOf(message["tool_call_id"]) ?? "";
      const at = calls.get(id);
      const before = at === undefined ? { type: "tool-call" as const, toolCallId: id, toolName: textOf(message["name"]) ?? "tool", args: {} } : (content[at] as ToolCallPart);
      const after: ToolCallPart = { ...withoutQuestions(before), ...resultOf(message) };
      if (at === undefined) content.push(after);
      else content[at] = after;
      continue;
    }
    cut = textOf(objectOf(message["response_metadata"])?.["threadwire"]) ?? cut;
    const reasoning = textOf(objectOf(message["additional_kwargs"])?.["reasoning_content"]);
    if (reasoning) content.push({ type: "reasoning", text: reasoning });
    content.push(...contentParts(message["content"], "assistant"));
    for (const [index, call] of arrayOf(message["tool_calls"]).entries()) {
      if (!isObject(call)) continue;
      const id = textOf(call["id"]) ?? `${textOf(message["id"]) ?? "message"}-${index}`;
      calls.set(id, content.length);
      content.push(callPart(call, id, overlay, taken));
    }
    for (const [index, call] of arrayOf(message["invalid_tool_calls"]).entries()) {
      if (!isObject(call)) continue;
      content.push({
        type: "tool-call",
        toolCallId: textOf(call["id"]) ?? `${textOf(message["id"]) ?? "message"}-invalid-${index}`,
        toolName: textOf(call["name"]) ?? "tool",
        argsText: textOf(call["args"]) ?? "",
        result: textOf(call["error"]) ?? "the arguments can't be read",
        isError: true,
      });
    }
  }
  return cut === "cancelled"
    ? { content, status: { type: "incomplete", reason: "cancelled" } }
    : cut === "failed"
      ? { content, status: { type: "incomplete", reason: "error", error: "The run failed while this was written." } }
      : { content };
}

function callPart(call: JsonObject, id: string, overlay: Overlay, taken: Set<Approval>): ToolCallPart {
  const name = textOf(call["name"]) ?? "tool";
  const args = objectOf(call["args"]) ?? {};
  const partial = textOf(call["partial_json"]);
  const given = Object.keys(args).length > 0 || partial === undefined ? { args, argsText: partial ?? JSON.stringify(args) } : { argsText: partial };
  return { ...withOverlay({ type: "tool-call", toolCallId: id, toolName: name, ...given } as ToolCallPart, args, overlay, taken) };
}

/** A call with what stands beside the messages about it. */
export function withOverlay(part: ToolCallPart, args: Json, overlay: Overlay, taken: Set<Approval>): ToolCallPart {
  const id = part.toolCallId ?? "";
  const answered = overlay.results.get(id);
  if (answered !== undefined) {
    return { ...part, result: answered["result"] ?? null, isError: answered["isError"] === true };
  }
  const tool = objectOf(overlay.tools[id]);
  if (tool !== undefined) {
    const progress: ToolProgress = { threadwire: { status: textOf(tool["status"]), output: tool["output"] ?? null } };
    part = { ...part, artifact: progress };
  }
  if (overlay.calls[id] !== undefined) {
    return { ...part, interrupt: { type: "human", payload: overlay.calls[id] } };
  }
  const approval = approvalFor(overlay, part.toolName, args, taken);
  if (approval === undefined) return part;
  const decided = overlay.decided.get(approval.id);
  const approved = approval.interrupt.answered || (decided !== undefined && decided.type !== "reject");
  return {
    ...part,
    approval: {
      id: approval.id,
      ...(approval.description === undefined ? {} : { prompt: approval.description }),
      ...(approved || decided !== undefined ? { approved } : {}),
    },
  };
}

function withoutQuestions({ approval: _, interrupt: __, artifact: ___, ...part }: ToolCallPart): ToolCallPart {
  return part;
}

function resultOf(message: JsonObject): Partial<ToolCallPart> {
  const content = message["content"] ?? null;
  const parts = Array.isArray(content) ? contentParts(content as Json, "assistant") : [];
  const text = parts.length > 0 && parts.every((part) => part.type === "text") ? parts.map((part) => (part as { text: string }).text).join("\n") : content;
  const artifact = message["artifact"];
  return {
    result: typeof text === "string" ? parsed(text) : text,
    ...(message["status"] === "error" ? { isError: true } : {}),
    ...(artifact == null ? {} : { artifact }),
  };
}

/** Tools write objects as text; people read them better as objects. */
function parsed(text: string): Json {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}
