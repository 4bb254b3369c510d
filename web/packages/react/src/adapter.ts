/**
 * The meeting point with assistant-ui: a view as what its external store runtime takes.
 *
 * All of its interfaces that are marked unstable, or may change, are used in this file and nowhere else.
 */

import {
  type AppendMessage,
  type AssistantRuntime,
  type ExternalStoreAdapter,
  type ExternalThreadQueueAdapter,
  INTERNAL,
  type ThreadMessage,
  fromThreadMessageLike,
} from "@assistant-ui/react";
import type { Shown, View } from "./view.js";

const CREATED = new Date(0);

/** Messages are the same objects as long as what they are made from is. */
const MESSAGES = new WeakMap<Shown, ThreadMessage>();

function threadMessage(shown: Shown): ThreadMessage {
  let message = MESSAGES.get(shown);
  if (message === undefined) {
    const { id, like, status, sending } = shown;
    const metadata = sending === null ? like.metadata : { ...like.metadata, custom: { ...like.metadata?.custom, sending } };
    message = fromThreadMessageLike({ createdAt: CREATED, ...like, ...(metadata && { metadata }) }, id, status);
    MESSAGES.set(shown, message);
  }
  return message;
}

/** A message of another branch, of which only the id is known: it is there to be counted and switched to. */
const ELSEWHERE = new Map<string, ThreadMessage>();

function elsewhere(id: string, role: ThreadMessage["role"]): ThreadMessage {
  const key = `${role} ${id}`;
  let message = ELSEWHERE.get(key);
  if (message === undefined) {
    const content = [{ type: "text" as const, text: role === "system" ? " " : "" }];
    message = fromThreadMessageLike({ role, id, content, createdAt: CREATED }, id, { type: "complete", reason: "unknown" });
    ELSEWHERE.set(key, message);
  }
  return message;
}

type Repository = NonNullable<ExternalStoreAdapter<ThreadMessage>["messageRepository"]>;

/** The messages of a view, with the branches that leave from each. */
export function repositoryOf(view: View): Repository {
  const messages: { message: ThreadMessage; parentId: string | null }[] = [];
  const visible = new Set(view.shown.map((each) => each.id));
  let parentId: string | null = null;
  for (const shown of view.shown) {
    const own = threadMessage(shown);
    // Siblings go in by their order, since the branch picker counts them as they come.
    const ids = shown.siblings.includes(shown.id) ? shown.siblings : [...shown.siblings, shown.id];
    for (const id of ids) {
      if (id === shown.id) messages.push({ message: own, parentId });
      else if (!visible.has(id)) messages.push({ message: elsewhere(id, own.role), parentId });
    }
    parentId = shown.id;
  }
  return { headId: parentId, messages };
}

type Instance = InstanceType<typeof INTERNAL.MessageRepository>;

/**
 * The runtime's store of messages. It counts branches in the order it came to know them, so where
 * that isn't the order they have, as after an edit of which it saw the end first, it starts anew.
 */
export class BranchStore {
  #instance: Instance = new INTERNAL.MessageRepository();

  /** The store that these messages can be put in. */
  fitting({ messages }: Repository): Instance {
    const wanted = new Map<string | null, string[]>();
    for (const { message, parentId } of messages) wanted.set(parentId, [...(wanted.get(parentId) ?? []), message.id]);
    for (const ids of wanted.values()) if (ids.length > 1 && !this.#keepsOrder(ids)) return (this.#instance = new INTERNAL.MessageRepository());
    return this.#instance;
  }

  #keepsOrder(ids: readonly string[]): boolean {
    const known = new Set(this.#instance.export().messages.map(({ message }) => message.id));
    const first = ids.find((id) => known.has(id));
    if (first === undefined) return true;
    const before = this.#instance.getBranches(first).filter((id) => ids.includes(id));
    const after = [...before, ...ids.filter((id) => !before.includes(id))];
    return after.every((id, index) => id === ids[index]);
  }
}

export interface Handlers {
  onNew(message: AppendMessage): void;
  onEdit(message: AppendMessage): void;
  onReload(parentId: string | null): void;
  onCancel(): void;
  onSwitchBranch(messageId: string): void;
  onToolResult: (result: {
    toolCallId: string;
    toolName: string;
    result: unknown;
    isError: boolean;
    artifact?: unknown;
    modelContent?: unknown;
  }) => void;
  onResumeToolCall(toolCallId: string, payload: unknown): void;
  onApproval(approvalId: string, approved: boolean, reason: string | undefined): void;
}

export interface AdapterOptions {
  readonly view: View;
  readonly repository: Repository;
  readonly store: Instance;
  readonly handlers: Handlers;
  readonly queue: ExternalThreadQueueAdapter;
  readonly isLoading: boolean;
  readonly isDisabled: boolean;
  readonly extras: unknown;
  readonly adapters: ExternalStoreAdapter<ThreadMessage>["adapters"];
}

/** A new object for each change, as the runtime wants it. */
export function storeAdapter(options: AdapterOptions): ExternalStoreAdapter<ThreadMessage> {
  const { view, repository, store, handlers, queue, isLoading, isDisabled, extras, adapters } = options;
  return {
    messageRepository: repository,
    unstable_messageRepositoryInstance: store,
    isRunning: view.active,
    isLoading,
    isDisabled,
    extras,
    adapters,
    queue,
    onNew: async (message) => handlers.onNew(message),
    onEdit: async (message) => handlers.onEdit(message),
    onReload: async (parentId) => handlers.onReload(parentId),
    onCancel: async () => handlers.onCancel(),
    onAddToolResult: (result) => handlers.onToolResult(result),
    onResumeToolCall: ({ toolCallId, payload }) => handlers.onResumeToolCall(toolCallId, payload),
    onRespondToToolApproval: ({ approvalId, approved, reason, text }) => handlers.onApproval(approvalId, approved, reason ?? text),
    // Needed for branches, which can't be switched during a run. During one, the runtime would use it to
    // take a message back that is cancelled; but the server keeps that.
    ...(view.active
      ? {}
      : {
          setMessages: () => {},
          unstable_onBranchChange: ({ headId }) => {
            if (headId !== null) handlers.onSwitchBranch(headId);
          },
        }),
  };
}

/** A queue that is the server's: what is sent during a run goes there at once and waits there. */
export function serverQueue(send: (message: AppendMessage) => void): ExternalThreadQueueAdapter {
  return { items: [], steerItems: [], enqueue: send, steer: send, move() {}, edit() {}, remove() {} };
}

/** A tool that the application has registered with assistant-ui, and that runs here. */
export interface FrontendTool {
  execute(args: never, context: { toolCallId: string; abortSignal: AbortSignal }): unknown;
}

/** Those of the runtime's tools that have something to execute. */
export function frontendTools(runtime: AssistantRuntime): { readonly [name: string]: FrontendTool } {
  const tools = runtime.thread.getModelContext().tools ?? {};
  return Object.fromEntries(
    Object.entries(tools).filter(([, tool]) => typeof (tool as Partial<FrontendTool>).execute === "function"),
  ) as { [name: string]: FrontendTool };
}

/** Calls `then` whenever tools come or go. */
export const onFrontendTools = (runtime: AssistantRuntime, then: () => void): (() => void) =>
  runtime.thread.unstable_on("modelContextUpdate", then);
