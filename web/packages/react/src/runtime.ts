/** The runtime: assistant-ui's external store runtime over a thread. */

import { type AppendMessage, type AssistantRuntime, type AttachmentAdapter, type ExternalStoreAdapter, type ThreadMessage, useExternalStoreRuntime } from "@assistant-ui/react";
import {
  CommandError,
  type ConnectOptions,
  type Connection,
  type ErrorInfo,
  type SendOptions,
  type Sending,
  type Strategy,
  type Thread,
  type ThreadSnapshot,
  asErrorInfo,
} from "@threadwire/client";
import { useEffect, useMemo, useRef, useState } from "react";
import { BranchStore, type FrontendTool, type Handlers, frontendTools, onFrontendTools, repositoryOf, serverQueue, storeAdapter } from "./adapter.js";
import { type Command, addMessage } from "./commands.js";
import type { Converter } from "./convert/converter.js";
import { stateConverter } from "./convert/index.js";
import type { Decision } from "./convert/overlay.js";
import { extras } from "./extras.js";
import { ToolRunner } from "./tools.js";
import { useOwnConnection, useOwnThread, useSnapshot } from "./use-connection.js";
import { Viewer } from "./view.js";

export interface ThreadwireRuntimeOptions {
  /** Where the server is, such as `ws://127.0.0.1:8000/ws`. */
  readonly url?: string | undefined;
  /** In place of `url`: a connection that the application keeps. */
  readonly connection?: Connection | undefined;
  /** Options of the connection that is made to `url`. */
  readonly connect?: ConnectOptions | undefined;
  /** The thread's id; null for a new thread, which begins with the first command. */
  readonly thread: string | null;
  /** The agent of threads that are made here; the server's first, by default. */
  readonly agent?: string | undefined;
  /** A new thread has begun, with this id. The application passes it as `thread` from then on. */
  readonly onThread?: ((id: string, begun: { readonly text: string; readonly sending: Sending }) => void) | undefined;
  /** Makes messages of the state; takes LangChain's and `{id, role, content}` by default. Keep its identity. */
  readonly converter?: Converter | undefined;
  /** What messages do that are sent during a run: they wait, by default. */
  readonly strategy?: Strategy | undefined;
  /** Tools that are executed here, by name, beside those that are registered with assistant-ui. */
  readonly tools?: { readonly [name: string]: FrontendTool } | undefined;
  /** So many messages of the state are shown at first, and with each `showEarlier`. */
  readonly page?: number | undefined;
  readonly attachments?: AttachmentAdapter | undefined;
  /** Further adapters of assistant-ui: thread list, speech, feedback. */
  readonly adapters?: ExternalStoreAdapter<ThreadMessage>["adapters"];
  readonly isDisabled?: boolean | undefined;
  /** Something that was sent has failed, or a tool that ran here. */
  readonly onError?: ((error: ErrorInfo) => void) | undefined;
}

const NOTHING: ThreadSnapshot = {
  id: "",
  ready: true,
  state: null,
  position: null,
  run: null,
  active: false,
  commands: [],
  toolCalls: [],
  failure: null,
};
const DEFAULT_CONVERTER = stateConverter();
const NO_TOOLS: { readonly [name: string]: FrontendTool } = {};
const NO_DECISIONS: ReadonlyMap<string, Decision> = new Map();

export function useThreadwireRuntime(options: ThreadwireRuntimeOptions): AssistantRuntime {
  const { converter = DEFAULT_CONVERTER, page, tools = NO_TOOLS, agent, attachments } = options;
  const connection = useOwnConnection(options.connection ?? options.url ?? "", options.connect);
  const thread = useOwnThread(connection, options.thread, { agent, tools: Object.keys(tools).sort() });
  const snapshot = useSnapshot(thread) ?? NOTHING;
  const [decided, setDecided] = useState(NO_DECISIONS);
  const [, setShownEarlier] = useState(0);

  // eslint-disable-next-line react-hooks/exhaustive-deps -- another thread is looked at anew
  const viewer = useMemo(() => new Viewer(converter, page), [converter, page, options.thread]);
  const view = viewer.view(snapshot, decided);

  // What handlers use is the latest; they themselves stay the same.
  const latest = useRef({ options, connection, thread, snapshot, view, decided });
  latest.current = { options, connection, thread, snapshot, view, decided };
  const [actions] = useState(() => makeActions(() => latest.current, setDecided));
  useEffect(() => () => actions.left(), [actions, options.thread]);

  const repository = useMemo(() => repositoryOf(view), [view]);
  // eslint-disable-next-line react-hooks/exhaustive-deps -- as the viewer
  const branches = useMemo(() => new BranchStore(), [viewer]);
  const store = useMemo(() => branches.fitting(repository), [branches, repository]);
  const more = useMemo(
    () =>
      extras({
        connection,
        thread,
        view,
        send: actions.send,
        decide: actions.decide,
        dismiss: (id) => latest.current.thread?.dismiss(id),
        showEarlier: () => {
          viewer.showEarlier();
          setShownEarlier((count) => count + 1);
        },
      }),
    [connection, thread, view, viewer, actions],
  );
  const adapters = useMemo(
    () => (attachments === undefined ? options.adapters : { attachments, ...options.adapters }),
    [attachments, options.adapters],
  );
  const isLoading = options.thread !== null && !snapshot.ready && snapshot.failure === null && view.shown.length === 0;
  const isDisabled = options.isDisabled ?? false;
  const adapter = useMemo(
    () => storeAdapter({ view, repository, store, handlers: actions.handlers, queue: actions.queue, isLoading, isDisabled, extras: more, adapters }),
    [view, repository, store, actions, isLoading, isDisabled, more, adapters],
  );
  const runtime = useExternalStoreRuntime(adapter);
  useTools(runtime, thread, snapshot, tools, actions);
  return runtime;
}

/** Declares the tools that are executed here, and executes what the server asks for. */
function useTools(
  runtime: AssistantRuntime,
  thread: Thread | null,
  snapshot: ThreadSnapshot,
  given: { readonly [name: string]: FrontendTool },
  actions: ReturnType<typeof makeActions>,
): void {
  const [registered, setRegistered] = useState(NO_TOOLS);
  const main = runtime.thread;
  useEffect(() => {
    const read = (): void => setRegistered(frontendTools(runtime));
    read();
    return onFrontendTools(runtime, read);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- another thread has listeners of its own
  }, [runtime, main]);
  const tools = useMemo(() => ({ ...registered, ...given }), [registered, given]);
  const names = Object.keys(tools).sort().join(" ");
  useEffect(() => {
    if (thread !== null && thread.followed.tools.join(" ") !== names) thread.setTools(names === "" ? [] : names.split(" "));
  }, [thread, names]);

  const runner = useMemo(() => (thread === null ? null : new ToolRunner(thread, actions.toolResult)), [thread, actions]);
  useEffect(() => () => runner?.stop(), [runner]);
  useEffect(() => runner?.run(snapshot, tools), [runner, snapshot, tools]);
}

interface Latest {
  readonly options: ThreadwireRuntimeOptions;
  readonly connection: Connection | null;
  readonly thread: Thread | null;
  readonly snapshot: ThreadSnapshot;
  readonly view: { readonly before: string | null; readonly hidden: number; readonly overlay: { readonly approvals: readonly { readonly id: string; readonly interrupt: { readonly id: string } }[] } };
  readonly decided: ReadonlyMap<string, Decision>;
}

/** What the user does, as commands. */
function makeActions(get: () => Latest, setDecided: (decided: ReadonlyMap<string, Decision>) => void) {
  let begun: Thread | null = null;

  const report = (error: unknown): void => get().options.onError?.(asErrorInfo(error));

  /** The thread to send to; a new one is opened here until the component shows it. */
  const target = (): { thread: Thread; fresh: boolean } => {
    const { thread, connection, options } = get();
    if (thread !== null) return { thread, fresh: false };
    if (begun !== null && (options.thread === null || options.thread === begun.id)) return { thread: begun, fresh: false };
    if (connection === null) throw new CommandError("connection-closed", "there is no connection yet");
    begun?.close();
    begun = connection.open(options.thread ?? connection.environment.randomId(), { agent: options.agent });
    return { thread: begun, fresh: options.thread === null };
  };

  const send = (command: Command, options: SendOptions = {}): Sending => {
    const { thread, fresh } = target();
    const sending = thread.send(command, options);
    sending.acknowledged().catch(report);
    if (fresh) get().options.onThread?.(thread.id, { text: textOf(command), sending });
    return sending;
  };

  const trySend = (command: Command, options?: SendOptions): void => {
    try {
      send(command, options);
    } catch (error) {
      report(error);
      throw error;
    }
  };

  const say = (message: AppendMessage): void => {
    const { connection, options, view } = get();
    const id = connection?.environment.randomId() ?? "";
    // The first message that is shown has no parent on the screen, but may have one in the state.
    const parentId = message.parentId ?? view.before;
    trySend(addMessage(message, id, parentId), { strategy: options.strategy });
  };

  const toolResult: Handlers["onToolResult"] = ({ toolCallId, toolName, result, isError, artifact, modelContent }) => {
    const body = { type: "add-tool-result" as const, toolCallId, toolName, result: result ?? null, isError, artifact, modelContent };
    trySend(body, { id: `result:${toolCallId}`.replace(/[^\x21-\x7e]/g, "_").slice(0, 128) });
  };

  /** Takes a decision; the answer goes out once all actions of the interrupt are decided. */
  const decide = (approvalId: string, decision: Decision): void => {
    const { view, decided } = get();
    const approval = view.overlay.approvals.find((each) => each.id === approvalId);
    if (approval === undefined) throw new CommandError("unknown-interrupt", "this is not asked (any longer)");
    const now = new Map([...decided, [approvalId, decision]]);
    const together = view.overlay.approvals.filter((each) => each.interrupt.id === approval.interrupt.id);
    const decisions = together.map((each) => now.get(each.id));
    if (decisions.every((each) => each !== undefined)) {
      trySend({ type: "resume", answers: { [approval.interrupt.id]: { decisions } } });
      for (const each of together) now.delete(each.id);
    }
    setDecided(now);
  };

  const handlers: Handlers = {
    onNew: say,
    onEdit: say,
    onReload: (parentId) => trySend({ type: "regenerate", parentId: parentId ?? get().view.before }),
    onCancel: () => void get().thread?.cancel().catch(report),
    onSwitchBranch: (messageId) => trySend({ type: "switch-branch", messageId }),
    onToolResult: toolResult,
    onResumeToolCall: (toolCallId, payload) =>
      toolResult({ toolCallId, toolName: callName(get().snapshot, toolCallId), result: payload, isError: false }),
    onApproval: (approvalId, approved, reason) =>
      decide(approvalId, approved ? { type: "approve" } : { type: "reject", ...(reason ? { message: reason } : {}) }),
  };
  return {
    handlers,
    queue: serverQueue(say),
    send,
    decide,
    toolResult,
    /** Another thread is shown. */
    left: () => {
      // The thread that was begun here is followed by the component from now on, or by nobody.
      const before = begun;
      begun = null;
      if (before !== null) setTimeout(() => before.close());
      setDecided(NO_DECISIONS);
    },
  };
}

function callName(snapshot: ThreadSnapshot, id: string): string {
  const state = snapshot.state as { threadwire?: { tool_calls?: { [id: string]: { name?: unknown } } } } | null;
  const name = state?.threadwire?.tool_calls?.[id]?.name;
  return typeof name === "string" ? name : "";
}

function textOf(command: Command): string {
  if (command.type !== "add-message") return "";
  const { parts } = (command as Extract<Command, { type: "add-message"; message: unknown }>).message as { parts: readonly { type: string; text?: string }[] };
  return parts.map((part) => part.text ?? "").join(" ").trim();
}
