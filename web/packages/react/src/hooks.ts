/** What components under the runtime can ask for, and do. */

import type { CommandView, Connection, ConnectionStatus, Json, RunInfo, SendOptions, Sending, Thread, ThreadSnapshot } from "@threadwire/client";
import { useCallback, useMemo, useRef, useSyncExternalStore } from "react";
import type { Command } from "./commands.js";
import type { Approval, Decision, Interrupt } from "./convert/overlay.js";
import { useExtras } from "./extras.js";
import { useStatusOf } from "./use-connection.js";
import { approvalsWithoutMessage, callsWithoutMessage } from "./view.js";

const nothing = (): (() => void) => () => {};

/** The connection; null before it is made. */
export const useConnection = (): Connection | null => useExtras((extras) => extras.connection);

/** The open thread; null while a new one has had no command. */
export const useThread = (): Thread | null => useExtras((extras) => extras.thread);

/** How the connection stands. */
export const useConnectionStatus = (): ConnectionStatus => useStatusOf(useConnection());

/** A part of the thread's snapshot; the component renders anew when that part is another (`Object.is`, or `same`). */
export function useThreadSnapshot<T>(select: (snapshot: ThreadSnapshot | null) => T, same: (a: T, b: T) => boolean = Object.is): T {
  const thread = useThread();
  const last = useRef<{ value: T } | null>(null);
  const read = (): T => {
    const value = select(thread?.getSnapshot() ?? null);
    if (last.current === null || !same(last.current.value, value)) last.current = { value };
    return last.current.value;
  };
  return useSyncExternalStore(thread?.subscribe ?? nothing, read, read);
}

/** A part of the state. What didn't change is the same object, so `state => state.plan` renders for the plan only. */
export function useThreadState<T, State = Json>(select: (state: State | null) => T, same?: (a: T, b: T) => boolean): T {
  return useThreadSnapshot((snapshot) => select((snapshot?.state ?? null) as State | null), same);
}

/** The current run, or the last. */
export const useRun = (): RunInfo | null => useThreadSnapshot((snapshot) => snapshot?.run ?? null);

const NO_COMMANDS: readonly CommandView[] = [];

/** Commands that were sent here and whose effect isn't in the state; and those that were refused, until dismissed. */
export const useCommands = (): readonly CommandView[] => useThreadSnapshot((snapshot) => snapshot?.commands ?? NO_COMMANDS);

/** Lets go of a command that was rejected or cancelled. */
export const useDismissCommand = (): ((id: string) => void) => useExtras((extras) => extras.dismiss);

/** Sends commands to the thread; own ones are typed by augmentation of `ThreadwireCommands`. */
export const useSendCommand = (): ((command: Command, options?: SendOptions) => Sending) => useExtras((extras) => extras.send);

/** What the run asks and nobody has answered, and how to answer it. */
export function useInterrupts(): { readonly interrupts: readonly Interrupt[]; readonly answer: (id: string, value: unknown) => Sending } {
  const interrupts = useExtras((extras) => extras.view.overlay.interrupts);
  const send = useSendCommand();
  const answer = useCallback((id: string, value: unknown) => send({ type: "resume", answers: { [id]: value } }), [send]);
  return { interrupts, answer };
}

export interface Approvals {
  readonly approvals: readonly Approval[];
  /** Those that are open and that no message shows at a tool call. */
  readonly loose: readonly Approval[];
  readonly decide: (id: string, decision: Decision) => void;
}

/** What an agent asks to be allowed to do, by LangChain's human-in-the-loop middleware. */
export function useApprovals(): Approvals {
  const view = useExtras((extras) => extras.view);
  const decide = useExtras((extras) => extras.decide);
  return useMemo(() => ({ approvals: view.overlay.approvals, loose: approvalsWithoutMessage(view), decide }), [view, decide]);
}

/** Calls that clients are to answer and that no message shows. */
export function useLooseCalls(): readonly { readonly id: string; readonly name: string; readonly args: Json }[] {
  const view = useExtras((extras) => extras.view);
  const last = useRef<{ key: string; calls: ReturnType<typeof callsWithoutMessage> } | null>(null);
  const calls = callsWithoutMessage(view);
  const key = JSON.stringify(calls);
  if (last.current?.key !== key) last.current = { key, calls };
  return last.current.calls;
}

/** Whether the agent takes edits and answers again, and keeps what was there before. */
export const useCanBranch = (): boolean => useExtras((extras) => extras.view.branches);

/** How many messages of the state come before those that are shown, and how to show more of them. */
export function useEarlierMessages(): { readonly hidden: number; readonly showEarlier: () => void } {
  const hidden = useExtras((extras) => extras.view.hidden);
  const showEarlier = useExtras((extras) => extras.showEarlier);
  return { hidden, showEarlier };
}
