/**
 * A thread's snapshot as the messages of a screen: the newest of them, with what is on its way.
 *
 * Nothing here depends on how many messages there are, or how long they are, beyond those that are
 * shown: a state of 2,000 messages costs what its last sixty do. A message whose parts of the state
 * are the same objects as before is the same object as before.
 */

import type { MessageStatus, ThreadMessageLike } from "@assistant-ui/react";
import { type CommandView, type Json, type ThreadSnapshot, isObject } from "@threadwire/client";
import { type AddMessage } from "./commands.js";
import { type Converter, type Part, arrayOf, graphBranches, objectOf, textOf } from "./convert/converter.js";
import { type Approval, type Decision, type Overlay, OverlayReader } from "./convert/overlay.js";

/** One message on the screen. */
export interface Shown {
  readonly id: string;
  readonly like: ThreadMessageLike;
  /** Of an assistant's message; where it has none of its own. */
  readonly status: MessageStatus;
  /** Ids of the messages that stand in its place on other branches, itself among them; in the order they came. */
  readonly siblings: readonly string[];
  /** The command that it is on its way with. */
  readonly sending: CommandView | null;
}

export interface View {
  readonly shown: readonly Shown[];
  /** How many messages of the state come before these. */
  readonly hidden: number;
  /** The id of the message before the first that is shown; null where there is none. */
  readonly before: string | null;
  readonly overlay: Overlay;
  readonly active: boolean;
  /** Whether messages can be edited and answered again. */
  readonly branches: boolean;
}

interface Cached {
  readonly sources: readonly Json[];
  readonly overlay: Overlay;
  /** A call in it has no result: what stands beside the messages matters to it. */
  readonly open: boolean;
  readonly shown: Shown;
}

const RUNNING: MessageStatus = { type: "running" };
const COMPLETE: MessageStatus = { type: "complete", reason: "unknown" };
const WAITING_FOR_CALLS: MessageStatus = { type: "requires-action", reason: "tool-calls" };
const WAITING_FOR_ANSWERS: MessageStatus = { type: "requires-action", reason: "interrupt" };
const NO_SIBLINGS: readonly string[] = [];

export class Viewer {
  readonly #converter: Converter;
  readonly #page: number;
  readonly #overlays = new OverlayReader();
  /** Where the window begins: the index among the state's messages, and the message's id. */
  #start: { index: number; id: string | null } | null = null;
  #cache = new Map<string, Cached>();
  #sendings = new WeakMap<CommandView, Shown>();
  #last: { snapshot: ThreadSnapshot; decided: ReadonlyMap<string, Decision>; view: View } | null = null;

  /** @param page so many messages of the state are shown at first, and with each `showEarlier` */
  constructor(converter: Converter, page = 60) {
    this.#converter = converter;
    this.#page = page;
  }

  /** Shows a page more of what came before. */
  showEarlier(): void {
    if (this.#start === null) return;
    this.#start = { index: Math.max(0, this.#start.index - this.#page), id: null };
    this.#last = null;
  }

  view(snapshot: ThreadSnapshot, decided: ReadonlyMap<string, Decision>): View {
    if (this.#last?.snapshot === snapshot && this.#last.decided === decided) return this.#last.view;
    const view = this.#make(snapshot, decided);
    this.#last = { snapshot, decided, view };
    return view;
  }

  #make(snapshot: ThreadSnapshot, decided: ReadonlyMap<string, Decision>): View {
    const { state, active, commands } = snapshot;
    const overlay = this.#overlays.read(state, commands, decided);
    const messages = this.#converter.messages(state);
    const start = this.#begin(messages);
    const branches = this.#converter.branches === undefined ? graphBranches(state) : this.#converter.branches(state);
    const cache = new Map<string, Cached>();
    const shown: Shown[] = [];
    for (let index = start; index < messages.length; ) {
      let end = index + 1;
      while (end < messages.length && this.#converter.joins(messages[end] as Json, messages[index] as Json)) end++;
      const each = this.#show(messages, index, end, overlay, branches ?? {}, cache);
      if (each !== null) shown.push(each);
      index = end;
    }
    this.#cache = cache;
    const before = start > 0 ? idOf(messages[start - 1] as Json) : null;
    return { shown: this.#addSendings(withStatus(shown, active, overlay), commands), hidden: start, before, overlay, active, branches: branches !== undefined };
  }

  /** The index of the first message that is shown. It moves only back, or where its message is gone. */
  #begin(messages: readonly Json[]): number {
    const start = this.#start;
    if (start !== null && start.index < messages.length) {
      const id = idOf(messages[start.index] as Json);
      if (start.id === null || start.id === id) {
        const index = this.#alignment(messages, start.index);
        this.#start = { index, id: idOf(messages[index] as Json) };
        return index;
      }
    }
    const index = this.#alignment(messages, Math.max(0, messages.length - this.#page));
    this.#start = messages.length === 0 ? null : { index, id: idOf(messages[index] as Json) };
    return index;
  }

  /** The nearest index from which on nothing is torn from what it belongs to. */
  #alignment(messages: readonly Json[], index: number): number {
    while (index > 0 && this.#converter.joins(messages[index] as Json, messages[index - 1] as Json)) index--;
    return index;
  }

  #show(
    messages: readonly Json[],
    from: number,
    to: number,
    overlay: Overlay,
    branches: { readonly [id: string]: Json },
    cache: Map<string, Cached>,
  ): Shown | null {
    let id = idOf(messages[from] as Json) ?? `message-${from}`;
    while (cache.has(id)) id = `${id}'`; // ids that come twice are told apart
    const before = this.#cache.get(id);
    const siblings = arrayOf(branches[id]) as readonly string[];
    if (
      before !== undefined &&
      before.sources.length === to - from &&
      before.sources.every((source, index) => source === messages[from + index]) &&
      (!before.open || before.overlay === overlay) &&
      sameIds(before.shown.siblings, siblings)
    ) {
      cache.set(id, before);
      return before.shown;
    }
    const sources = messages.slice(from, to);
    const converted = this.#converter.convert(sources, { id, overlay });
    if (converted === null) return null;
    const like = withDistinctCalls(converted);
    const open = typeof like.content !== "string" && like.content.some((part) => part.type === "tool-call" && part.result === undefined);
    const shown: Shown = { id, like, status: COMPLETE, siblings: siblings, sending: null };
    cache.set(id, { sources, overlay, open, shown });
    return shown;
  }

  /** Adds what was sent from here and isn't in the state. */
  #addSendings(shown: Shown[], commands: readonly CommandView[]): Shown[] {
    const all = shown;
    for (const view of commands) {
      if (view.command.type !== "add-message") continue;
      const { message, sourceId } = view.command as unknown as AddMessage;
      const id = message.id ?? view.id;
      if (all.some((each) => each.id === id)) continue;
      const refused = view.status === "rejected" || view.status === "cancelled";
      if (sourceId != null && !refused) {
        // An edit takes the place of what it replaces.
        const at = all.findIndex((each) => each.id === sourceId);
        if (at >= 0) all.splice(at);
      }
      let each = this.#sendings.get(view);
      if (each === undefined) {
        const like: ThreadMessageLike = { role: "user", id, content: message.parts as readonly Part[] };
        each = { id, like, status: COMPLETE, siblings: NO_SIBLINGS, sending: view };
        this.#sendings.set(view, each);
      }
      all.push(each);
    }
    return all;
  }
}

const idOf = (message: Json): string | null => (isObject(message) ? (textOf(message["id"]) ?? null) : null);

const sameIds = (one: readonly string[], other: readonly string[]): boolean =>
  one === other || (one.length === other.length && one.every((id, index) => id === other[index]));

function withStatus(shown: readonly Shown[], active: boolean, overlay: Overlay): Shown[] {
  const last = shown.length - 1;
  return shown.map((each, index) => {
    if (each.like.role !== "assistant") return each;
    const status = index === last && active ? RUNNING : statusOf(each, overlay);
    return status === each.status ? each : withThatStatus(each, status);
  });
}

function statusOf({ like }: Shown, overlay: Overlay): MessageStatus {
  if (like.status !== undefined) return like.status;
  const calls = typeof like.content === "string" ? [] : like.content.filter((part) => part.type === "tool-call");
  const open = calls.filter((part) => part.result === undefined);
  if (open.some((part) => part.approval !== undefined && part.approval.approved === undefined)) return WAITING_FOR_ANSWERS;
  if (open.some((part) => part.interrupt !== undefined || overlay.calls[part.toolCallId ?? ""] !== undefined)) return WAITING_FOR_CALLS;
  return COMPLETE;
}

/**
 * Some models number their calls anew with each answer, and assistant-ui takes no two of one id in a message.
 * The last keeps its id, since that is the one which may be open.
 */
function withDistinctCalls(like: ThreadMessageLike): ThreadMessageLike {
  if (typeof like.content === "string") return like;
  const seen = new Set<string>();
  let twice = false;
  const content = [...like.content].reverse().map((part) => {
    if (part.type !== "tool-call") return part;
    let id = part.toolCallId ?? "";
    while (seen.has(id)) id = `${id}'`;
    seen.add(id);
    twice ||= id !== part.toolCallId;
    return { ...part, toolCallId: id };
  });
  return twice ? { ...like, content: content.reverse() } : like;
}

const STATUSES = new WeakMap<Shown, Map<MessageStatus, Shown>>();

/** The same message with another status; the same object for the same two. */
function withThatStatus(shown: Shown, status: MessageStatus): Shown {
  let known = STATUSES.get(shown);
  if (known === undefined) STATUSES.set(shown, (known = new Map()));
  let found = known.get(status);
  if (found === undefined) known.set(status, (found = { ...shown, status }));
  return found;
}

/** The calls that clients are to answer and that no message shows. */
export function callsWithoutMessage(view: View): { readonly id: string; readonly name: string; readonly args: Json }[] {
  const seen = new Set<string>();
  for (const { like } of view.shown) {
    if (typeof like.content === "string") continue;
    for (const part of like.content) if (part.type === "tool-call" && part.toolCallId) seen.add(part.toolCallId);
  }
  return Object.entries(view.overlay.calls).flatMap(([id, call]) => {
    const { name, args = {} } = objectOf(call) ?? {};
    return seen.has(id) || view.overlay.results.has(id) ? [] : [{ id, name: textOf(name) ?? "tool", args }];
  });
}

/** The approvals that are open and that no message shows. */
export function approvalsWithoutMessage(view: View): readonly Approval[] {
  if (view.overlay.approvals.length === 0) return view.overlay.approvals;
  const seen = new Set<string>();
  for (const { like } of view.shown) {
    if (typeof like.content === "string") continue;
    for (const part of like.content) if (part.type === "tool-call" && part.approval !== undefined) seen.add(part.approval.id);
  }
  return view.overlay.approvals.filter(({ id, interrupt }) => !seen.has(id) && !interrupt.answered && !view.overlay.decided.has(id));
}
