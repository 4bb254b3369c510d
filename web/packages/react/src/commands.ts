/** The bodies of commands, and how an application types its own. Spec: PROTOCOL.md §7.6. */

import type { AppendMessage, ThreadUserMessagePart } from "@assistant-ui/react";
import { InvalidValue, type Json, type JsonObject } from "@threadwire/client";

export type MessagePart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly image: string; readonly filename?: string | undefined }
  | { readonly type: "file"; readonly data: string; readonly mimeType: string; readonly filename?: string | undefined }
  | { readonly type: "audio"; readonly audio: { readonly data: string; readonly format: string } }
  | { readonly type: "data"; readonly name: string; readonly data: Json };

export interface AddMessage {
  readonly type: "add-message";
  readonly message: {
    readonly role?: "user" | "system";
    readonly id?: string | undefined;
    readonly parts: readonly MessagePart[];
  };
  readonly parentId?: string | null;
  /** The message that this one replaces, with all after it. */
  readonly sourceId?: string | null;
}
export interface AddToolResult {
  readonly type: "add-tool-result";
  readonly toolCallId: string;
  readonly result: unknown;
  readonly toolName?: string | undefined;
  readonly isError?: boolean | undefined;
  readonly artifact?: unknown;
  readonly modelContent?: unknown;
}
export interface Resume {
  readonly type: "resume";
  readonly answers: { readonly [interruptId: string]: unknown };
}
export interface Regenerate {
  readonly type: "regenerate";
  readonly parentId: string | null;
}
export interface SwitchBranch {
  readonly type: "switch-branch";
  readonly messageId: string;
}
export type BuiltInCommand = AddMessage | AddToolResult | Resume | Regenerate | SwitchBranch;

/**
 * The application's own commands, by type. Empty here; applications add theirs:
 *
 *     declare module "@threadwire/react" {
 *       interface ThreadwireCommands {
 *         "set-title": { title: string };
 *       }
 *     }
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type
export interface ThreadwireCommands {}

type OwnCommand = {
  [Type in keyof ThreadwireCommands]: { readonly type: Type } & Readonly<ThreadwireCommands[Type] & object>;
}[keyof ThreadwireCommands];

/** Any command where the application has typed none of its own. */
export type Command =
  | BuiltInCommand
  | ([keyof ThreadwireCommands] extends [never] ? { readonly type: string; readonly [field: string]: unknown } : OwnCommand);

/** The command that adds what was written in a composer. */
export function addMessage(message: AppendMessage, id: string, parentId: string | null): AddMessage {
  const attached = (message.attachments ?? []).flatMap((attachment) =>
    attachment.content.map((part) => named(part as ThreadUserMessagePart, attachment.name)),
  );
  const parts = [...(message.content as readonly ThreadUserMessagePart[]), ...attached].map(toPart);
  return {
    type: "add-message",
    message: { role: message.role === "system" ? "system" : "user", id, parts },
    parentId,
    ...(message.sourceId == null ? {} : { sourceId: message.sourceId }),
  };
}

function named(part: ThreadUserMessagePart, name: string): ThreadUserMessagePart {
  return (part.type === "image" || part.type === "file") && part.filename === undefined ? { ...part, filename: name } : part;
}

function toPart(part: ThreadUserMessagePart): MessagePart {
  switch (part.type) {
    case "text":
      return { type: "text", text: part.text };
    case "image":
      return { type: "image", image: part.image, filename: part.filename };
    case "file":
      return { type: "file", data: part.data, mimeType: part.mimeType, filename: part.filename };
    case "audio":
      return { type: "audio", audio: part.audio };
    case "data":
      return { type: "data", name: part.name, data: part.data as Json };
    default:
      throw new InvalidValue("unsupported-type", `a part of the type ${(part as JsonObject)["type"]} can't be sent`);
  }
}
