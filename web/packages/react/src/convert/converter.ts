/** What turns a state into messages. A converter is made of pure functions; caching is done around it. */

import type { ThreadMessageLike } from "@assistant-ui/react";
import { type Json, type JsonObject, isObject } from "@threadwire/client";
import type { Overlay } from "./overlay.js";

export interface ConvertContext {
  /** The id that the message has on the screen. */
  readonly id: string;
  /** What stands beside the messages: open calls, approvals, tools at work. */
  readonly overlay: Overlay;
}

export interface Converter {
  /** The messages of a state, oldest first. The same object where they are the same. */
  messages(state: Json): readonly Json[];
  /** Whether `message` is shown as a part of the one that begins with `first`. */
  joins(message: Json, first: Json): boolean;
  /** The message that these make together, null where there is nothing to show. */
  convert(messages: readonly Json[], context: ConvertContext): ThreadMessageLike | null;
  /**
   * For each message that has others in its place, the ids of all of them, in the order they came; undefined where
   * the agent keeps one course only, and takes no edits. Without this it is what hosted graphs keep.
   */
  branches?(state: Json): JsonObject | undefined;
}

export type Part = Exclude<ThreadMessageLike["content"], string>[number];
export type ToolCallPart = Extract<Part, { type: "tool-call" }>;

export const textOf = (value: Json | undefined): string | undefined => (typeof value === "string" ? value : undefined);
export const objectOf = (value: Json | undefined): JsonObject | undefined => (isObject(value) ? value : undefined);
export const arrayOf = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? (value as readonly Json[]) : []);

const NO_MESSAGES: readonly Json[] = [];

/** The array under a root key, such as `messages`. */
export function messagesUnder(state: Json, key: string): readonly Json[] {
  const found = isObject(state) ? state[key] : undefined;
  return Array.isArray(found) ? (found as readonly Json[]) : NO_MESSAGES;
}

/** The branches of a hosted graph. Spec: PROTOCOL.md §15.5. */
export const graphBranches = (state: Json): JsonObject =>
  objectOf(isObject(state) ? objectOf(state["threadwire"])?.["branches"] : undefined) ?? {};

export const dataUrl = (data: string, mimeType: string): string =>
  /^(?:data|https?|blob):/i.test(data) ? data : `data:${mimeType};base64,${data}`;
