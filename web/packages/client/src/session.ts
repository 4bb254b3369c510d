/**
 * The client's side of the protocol, without the socket: what to send, and what each frame means.
 *
 * A session outlives its connections. `connected` puts everything in the queue that a fresh one
 * needs: threads (each from where it stands), commands that are not settled (under their ids),
 * cancels. `nextFrame` empties the queue, `receive` takes in what the server says. There is no
 * clock in here: who waits, and for how long, is the business of the caller.
 *
 * Spec: PROTOCOL.md §6, §7 and §9.
 */

import { equal } from "./canonical.js";
import { CommandError, ConnectionClosed, type ErrorInfo, TEMPORARY, ThreadError } from "./errors.js";
import {
  type CancelFrame,
  type ClientFrame,
  type CommandFrame,
  type CommandStatus,
  type ErrorFrame,
  type GoodbyeFrame,
  PROTOCOL_VERSION,
  type RunInfo,
  type SendFrame,
  type ServerFrame,
  type ToolFrame,
  type WelcomeFrame,
  hasEnded,
  isSettled,
} from "./frames.js";
import type { Json } from "./json.js";
import { type Outcome, Replica } from "./replica.js";

/** How often a command is sent again where the server says that it can't take it for now. */
const MAX_REFUSALS = 8;

export interface OpenOptions {
  readonly agent?: string | undefined;
  /** Names of the tools that this client executes. */
  readonly tools?: readonly string[] | undefined;
  /** Asks for hashes, and checks the state against them. */
  readonly hash?: boolean | undefined;
  /** Becomes the state of a thread that has none, where the agent is served with seeding. */
  readonly state?: Json | undefined;
}

/** One share in a followed thread. A thread is followed as long as it has any. */
export interface Opening {
  readonly thread: FollowedThread;
  tools: readonly string[];
  readonly hash: boolean;
}

/** A thread as the server shows it. */
export class FollowedThread {
  readonly id: string;
  readonly agent: string | undefined;
  readonly replica = new Replica();
  readonly openings = new Set<Opening>();
  /** Calls that this connection is to execute, by tool call id. */
  readonly toolCalls = new Map<string, ToolFrame>();
  run: RunInfo | null = null;
  /** Why the thread is followed no more, where the server ended it. */
  failure: ErrorInfo | null = null;
  seed: Json | undefined;
  /** An `open` is on its way and not answered: frames that don't fit need no other. */
  asked = false;
  /** How often in a row the thread was refused for now. */
  refusals = 0;
  /** The replica was wrong, and no update has fitted since. */
  doubted = false;

  constructor(id: string, agent: string | undefined, seed: Json | undefined) {
    this.id = id;
    this.agent = agent;
    this.seed = seed;
  }

  get tools(): string[] {
    return [...new Set([...this.openings].flatMap((opening) => opening.tools))];
  }

  get hash(): boolean {
    return [...this.openings].some((opening) => opening.hash);
  }
}

/** A command on its way: null → queued → running → applied, rejected or cancelled. */
export class SentCommand {
  readonly frame: SendFrame;
  status: CommandStatus | null = null;
  /** The server has had it durable at some time. */
  acknowledged = false;
  /** The server knew the id before this session sent it. */
  duplicate = false;
  /** Where its effect is in the log, once it is applied. */
  seq: number | null = null;
  error: ErrorInfo | null = null;
  /** It was sent on a connection that has been lost: it may have arrived. */
  uncertain = false;
  refusals = 0;

  constructor(frame: SendFrame) {
    this.frame = frame;
  }
}

/** A cancel on its way. `run` is the one to see ended, null where none was known. */
export interface SentCancel {
  readonly frame: CancelFrame;
  readonly run: string | null;
  done: boolean;
  error: ErrorInfo | null;
}

export type SessionEvent =
  /** Something about the thread is different now. */
  | { readonly kind: "thread"; readonly thread: FollowedThread }
  | { readonly kind: "command"; readonly command: SentCommand }
  | { readonly kind: "cancel"; readonly cancel: SentCancel }
  | { readonly kind: "tool"; readonly thread: FollowedThread; readonly call: ToolFrame }
  /** `retry(target)` is due after a wait that grows with `attempt`, which starts at 1. */
  | { readonly kind: "retry"; readonly target: FollowedThread | SentCommand; readonly attempt: number }
  /** The server complains about the connection, not about a thread or a command. */
  | { readonly kind: "problem"; readonly error: ErrorFrame };

export class ClientSession {
  /** The last one; null before the first. */
  welcome: WelcomeFrame | null = null;
  /** What the server said on this connection before closing it. */
  goodbye: GoodbyeFrame | null = null;

  readonly #threads = new Map<string, FollowedThread>();
  /** Those that are not settled, in the order they were sent. */
  readonly #commands = new Map<string, SentCommand>();
  readonly #cancels = new Set<SentCancel>();
  #queue: ClientFrame[] = [];
  #online = false;

  // the connection

  /** A connection is up, and has said welcome. */
  connected(): void {
    this.#online = true;
    for (const thread of this.#threads.values()) this.#ask(thread);
    for (const command of this.#commands.values()) this.#put(command.frame);
    for (const cancel of this.#cancels) this.#put(cancel.frame);
  }

  /** The connection is gone; whether what was sent last has arrived is unknown. */
  disconnected(): void {
    const unsent = new Set(this.#queue);
    this.#online = false;
    this.#queue = [];
    this.goodbye = null;
    for (const command of this.#commands.values()) {
      command.refusals = 0;
      if (!unsent.has(command.frame)) command.uncertain = true;
    }
    for (const thread of this.#threads.values()) {
      thread.refusals = 0;
      thread.toolCalls.clear(); // the server gives them out again
    }
  }

  /** The next frame to send, undefined while there is none. */
  nextFrame(): ClientFrame | undefined {
    return this.#queue.shift();
  }

  /** A frame from `nextFrame` can't be sent: what waits for its answer has it herewith. */
  refuse(frame: ClientFrame, error: ErrorInfo): SessionEvent[] {
    if (frame.type === "command") return this.#settle(this.#commands.get(key(frame)), "rejected", error);
    const thread = frame.type === "open" ? this.#threads.get(frame.thread) : undefined;
    return thread === undefined ? [] : this.#fail(thread, error);
  }

  // what the client wants

  /**
   * Follows a thread; one that is followed already is shared, and its first agent and state count.
   *
   * @throws ThreadError `agent-mismatch`, where it is followed under another agent.
   */
  open(id: string, options: OpenOptions = {}): Opening {
    const { agent, tools = [], hash = false } = options;
    let thread = this.#threads.get(id);
    const fresh = thread === undefined;
    thread ??= new FollowedThread(id, agent, options.state);
    if (agent !== undefined && thread.agent !== undefined && agent !== thread.agent) {
      throw new ThreadError("agent-mismatch", `the thread is open under the agent "${thread.agent}"`, "agent");
    }
    this.#threads.set(id, thread);
    const opening: Opening = { thread, tools, hash };
    this.#changeOpenings(thread, () => thread.openings.add(opening), fresh);
    return opening;
  }

  /** Changes what an opening can execute. */
  setTools(opening: Opening, tools: readonly string[]): void {
    if (!opening.thread.openings.has(opening)) return;
    this.#changeOpenings(opening.thread, () => (opening.tools = tools), false);
  }

  /** Gives up a share, once; the last one ends the following. Its commands go on. */
  close(opening: Opening): void {
    const thread = opening.thread;
    if (!thread.openings.has(opening)) return;
    if (thread.openings.size === 1 || this.#threads.get(thread.id) !== thread) {
      thread.openings.delete(opening);
      if (this.#threads.get(thread.id) === thread) this.#drop(thread);
    } else {
      this.#changeOpenings(thread, () => thread.openings.delete(opening), false);
    }
  }

  /**
   * Sends a command, and again on each new connection until it is settled.
   *
   * The same id with the same command, while that is not settled, is one and the same sending.
   *
   * @throws CommandError `command-id-reused`, where it is another command.
   */
  send(frame: Omit<SendFrame, "type">): SentCommand {
    const known = this.#commands.get(key(frame));
    if (known !== undefined) {
      if (!equal(known.frame.command, frame.command)) {
        throw new CommandError("command-id-reused", "the id was used for another command", "id");
      }
      return known;
    }
    const sent = new SentCommand({ type: "command", ...frame });
    this.#commands.set(key(frame), sent);
    this.#put(sent.frame);
    return sent;
  }

  /** The commands that are not settled, in the order they were sent. */
  get unsettled(): SentCommand[] {
    return [...this.#commands.values()];
  }

  /** Stops a run, or without one the current run and the queue. */
  cancel(thread: FollowedThread, run?: string): SentCancel {
    const current = thread.run !== null && !hasEnded(thread.run.status) ? thread.run.id : null;
    const frame: CancelFrame = { type: "cancel", thread: thread.id, run };
    const cancel: SentCancel = { frame, run: run ?? current, done: false, error: null };
    this.#cancels.add(cancel);
    this.#put(frame);
    return cancel;
  }

  /** The wait of a retry is over. */
  retry(target: FollowedThread | SentCommand): void {
    if (target instanceof FollowedThread) {
      if (this.#threads.get(target.id) !== target) return;
      this.#ask(target);
      for (const cancel of this.#cancelsOf(target.id)) this.#put(cancel.frame);
    } else if (this.#commands.get(key(target.frame)) === target) {
      this.#put(target.frame);
    }
  }

  /** Brings a thread's state to its head. */
  settleState(thread: FollowedThread): SessionEvent[] {
    const behind = thread.replica.head !== thread.replica.position;
    const outcome = thread.replica.settle();
    if (outcome === "applied" && behind) thread.doubted = false;
    return outcome === "applied" ? [] : this.#moved(thread, outcome);
  }

  // what the server says

  /**
   * Takes in one frame. What concerns nothing known here is ignored.
   *
   * @throws ConnectionClosed where the server speaks another version of the protocol.
   */
  receive(frame: ServerFrame): SessionEvent[] {
    switch (frame.type) {
      case "welcome":
        if (frame.protocol !== PROTOCOL_VERSION) {
          throw new ConnectionClosed(1002, `the server speaks version ${frame.protocol} of the protocol`);
        }
        this.welcome = frame;
        return [];
      case "goodbye":
        this.goodbye = frame;
        return [];
      case "pong":
        return [];
      case "heartbeat":
        for (const [id, head] of Object.entries(frame.heads)) {
          const thread = this.#threads.get(id);
          if (thread === undefined || thread.asked) continue;
          const here = thread.replica.head;
          if (here?.epoch !== head[0] || here.seq !== head[1]) this.#ask(thread);
        }
        return [];
      case "command":
        return this.#command(frame);
      case "error":
        return this.#error(frame);
    }
    const thread = this.#threads.get(frame.thread);
    if (thread === undefined) return [];
    switch (frame.type) {
      case "update":
        return this.#moved(thread, thread.replica.update(frame));
      case "snapshot": {
        const outcome = thread.replica.snapshot(frame);
        const ended = outcome === "applied" ? this.#learnRun(thread, frame.run) : [];
        return [...this.#moved(thread, outcome), ...ended];
      }
      case "run":
        if (thread.replica.since !== null) this.#answered(thread);
        return [{ kind: "thread", thread }, ...this.#learnRun(thread, frame.run)];
      case "tool":
        thread.toolCalls.set(frame.tool_call_id, frame);
        return [{ kind: "tool", thread, call: frame }];
    }
  }

  #moved(thread: FollowedThread, outcome: Outcome): SessionEvent[] {
    switch (outcome) {
      case "applied":
        this.#answered(thread);
        return [{ kind: "thread", thread }];
      case "misfit":
        if (!thread.asked) this.#ask(thread);
        return [];
      case "diverged":
        if (thread.doubted) {
          // A fresh snapshot didn't help: asking for the next would go on for ever.
          return this.#fail(thread, { code: "internal", message: "the updates don't fit the snapshot" });
        }
        thread.doubted = true;
        this.#ask(thread);
        return [];
    }
  }

  #learnRun(thread: FollowedThread, run: RunInfo | null): SessionEvent[] {
    thread.run = run;
    const ended = run === null || hasEnded(run.status);
    if (ended) thread.toolCalls.clear();
    const done = this.#cancelsOf(thread.id).filter(
      (cancel) => ended || (cancel.run !== null && run.id !== cancel.run),
    );
    return done.map((cancel) => this.#finish(cancel, null));
  }

  #command(frame: CommandFrame): SessionEvent[] {
    const sent = this.#commands.get(key(frame));
    if (sent === undefined) return [];
    if (sent.status === null) sent.duplicate = frame.duplicate === true && !sent.uncertain;
    if (frame.status === "rejected") {
      const error = frame.error ?? { code: "internal", message: "rejected without a reason" };
      if (TEMPORARY.has(error.code) && sent.refusals < MAX_REFUSALS) {
        sent.refusals += 1;
        return [{ kind: "retry", target: sent, attempt: sent.refusals }];
      }
      return this.#settle(sent, "rejected", error);
    }
    sent.acknowledged = true;
    return this.#settle(sent, frame.status, frame.error ?? null, frame.seq ?? null);
  }

  #settle(
    sent: SentCommand | undefined,
    status: CommandStatus,
    error: ErrorInfo | null,
    seq: number | null = null,
  ): SessionEvent[] {
    if (sent === undefined) return [];
    sent.status = status;
    sent.error = error;
    sent.seq = seq;
    if (isSettled(status)) this.#commands.delete(key(sent.frame));
    return [{ kind: "command", command: sent }];
  }

  #error(frame: ErrorFrame): SessionEvent[] {
    const error: ErrorInfo = { code: frame.code, message: frame.message, field: frame.field };
    if (frame.id !== undefined) {
      const meant = this.unsettled.filter(
        (sent) => sent.frame.id === frame.id && (frame.thread === undefined || frame.thread === sent.frame.thread),
      );
      return meant.flatMap((sent) => this.#settle(sent, "rejected", error));
    }
    if (frame.thread === undefined) return [{ kind: "problem", error: frame }];
    const thread = this.#threads.get(frame.thread);
    if (thread === undefined) return [];
    if (frame.code === "store-unavailable" || frame.code === "overloaded") {
      thread.asked = true;
      thread.refusals += 1;
      return [{ kind: "retry", target: thread, attempt: thread.refusals }];
    }
    const cancels = this.#cancelsOf(thread.id);
    if (frame.field === "run" || (cancels.length > 0 && !thread.asked)) {
      return cancels.map((cancel) => this.#finish(cancel, error));
    }
    return this.#fail(thread, error);
  }

  // helpers

  #put(frame: ClientFrame): void {
    if (this.#online) this.#queue.push(frame);
  }

  #cancelsOf(thread: string): SentCancel[] {
    return [...this.#cancels].filter((cancel) => cancel.frame.thread === thread);
  }

  #finish(cancel: SentCancel, error: ErrorInfo | null): SessionEvent {
    this.#cancels.delete(cancel);
    cancel.done = true;
    cancel.error = error;
    return { kind: "cancel", cancel };
  }

  /** Asks for the thread from where the replica stands. */
  #ask(thread: FollowedThread): void {
    thread.asked = true;
    const tools = thread.tools;
    this.#put({
      type: "open",
      thread: thread.id,
      agent: thread.agent,
      since: thread.replica.since ?? undefined,
      state: thread.seed,
      tools: tools.length > 0 ? tools : undefined,
      hash: thread.hash || undefined,
    });
  }

  #changeOpenings(thread: FollowedThread, change: () => void, fresh: boolean): void {
    const before = JSON.stringify([thread.tools, thread.hash]);
    change();
    if (fresh || JSON.stringify([thread.tools, thread.hash]) !== before) this.#ask(thread);
  }

  #answered(thread: FollowedThread): void {
    thread.asked = false;
    thread.refusals = 0;
    thread.seed = undefined;
  }

  #fail(thread: FollowedThread, error: ErrorInfo): SessionEvent[] {
    thread.failure = error;
    return [...this.#drop(thread, error), { kind: "thread", thread }];
  }

  #drop(thread: FollowedThread, error: ErrorInfo | null = null): SessionEvent[] {
    this.#threads.delete(thread.id);
    const ended = this.#cancelsOf(thread.id).map((cancel) => this.#finish(cancel, error));
    // A refused `open` leaves an earlier subscription as it was: this ends that too.
    this.#put({ type: "close", thread: thread.id });
    return ended;
  }
}

const key = (command: { readonly thread: string; readonly id: string }): string => `${command.thread} ${command.id}`;
