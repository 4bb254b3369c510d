/** What the hooks of this package find of the runtime that they are used under. */

import { useAuiState } from "@assistant-ui/react";
import type { Connection, SendOptions, Sending, Thread } from "@threadwire/client";
import type { Command } from "./commands.js";
import type { Decision } from "./convert/overlay.js";
import type { View } from "./view.js";

const KIND = Symbol("threadwire");

export interface Extras {
  readonly kind: typeof KIND;
  readonly connection: Connection | null;
  /** null: the thread is new, and isn't there before its first command. */
  readonly thread: Thread | null;
  readonly view: View;
  /** Sends a command, and makes the thread where it is new. */
  readonly send: (command: Command, options?: SendOptions) => Sending;
  readonly decide: (approvalId: string, decision: Decision) => void;
  readonly dismiss: (commandId: string) => void;
  readonly showEarlier: () => void;
}

export const extras = (members: Omit<Extras, "kind">): Extras => ({ kind: KIND, ...members });

const isExtras = (value: unknown): value is Extras =>
  typeof value === "object" && value !== null && (value as { kind?: unknown }).kind === KIND;

/** A part of the extras of the runtime around. @throws where that is none of `useThreadwireRuntime`. */
export function useExtras<T>(select: (extras: Extras) => T): T {
  return useAuiState((state) => {
    const found = state.thread.extras;
    if (!isExtras(found)) throw new Error("this hook is for components under a runtime of useThreadwireRuntime");
    return select(found);
  });
}
