/** A thread as users of the client hold it: a store of its state, and what they send to it. */

import { CommandError, type ErrorInfo, ThreadError } from "./errors.js";
import type { Connection } from "./connection.js";
import { type CommandStatus, type Position, type RunInfo, type Strategy, type ToolFrame, isSettled } from "./frames.js";
import type { Json, JsonObject } from "./json.js";
import type { FollowedThread, Opening, SentCommand } from "./session.js";
import { copyIn } from "./values.js";

/** Of settled commands that nobody has dismissed, so many are kept. */
const MAX_SETTLED = 50;

const COMMAND_ID = /^[\x21-\x7e]{1,128}$/;

/** A command that was sent from here, and what has become of it so far. */
export interface CommandView {
  readonly id: string;
  readonly command: JsonObject & { readonly type: string };
  /** null: not acknowledged yet. */
  readonly status: CommandStatus | null;
  readonly seq: number | null;
  readonly error: ErrorInfo | null;
}

/** A thread at one moment. Immutable; a part that hasn't changed since is the same object. */
export interface ThreadSnapshot {
  readonly id: string;
  /** Whether there is a state. */
  readonly ready: boolean;
  readonly state: Json;
  readonly position: Position | null;
  /** The current run, or the last. */
  readonly run: RunInfo | null;
  /** Whether a run goes on or is about to; one that waits for answers doesn't. */
  readonly active: boolean;
  /**
   * Commands sent from here whose effect isn't in `state` yet, in the order they were sent; and those
   * that were rejected or cancelled, until they are dismissed.
   */
  readonly commands: readonly CommandView[];
  /** Calls that this client is to execute. */
  readonly toolCalls: readonly ToolFrame[];
  /** Why the thread can't be followed (any longer). */
  readonly failure: ErrorInfo | null;
}

export interface SendOptions {
  /** 1 to 128 visible ASCII characters; the same id again has no second effect. */
  readonly id?: string | undefined;
  /** What happens where a run is active: it waits, by default. */
  readonly strategy?: Strategy | undefined;
}

/** The commands of one thread that were sent from here. */
export class Outgoing {
  views: readonly CommandView[] = [];
  #sent: SentCommand[] = [];
  readonly #cache = new Map<SentCommand, CommandView>();
  readonly #waiting = new Set<() => void>();

  add(sent: SentCommand): void {
    if (!this.#sent.includes(sent)) this.#sent.push(sent);
    this.changed(sent);
  }

  changed(sent: SentCommand): void {
    this.#cache.delete(sent);
    this.#rebuild();
    this.announce();
  }

  /** Lets go of what was rejected or cancelled. */
  dismiss(id: string): void {
    this.#keep((sent) => sent.frame.id !== id || !isSettled(sent.status));
  }

  /** The state has got so far: what is applied up to there is to be seen in it. */
  reached(seq: number | null): void {
    if (seq === null || this.#sent.length === 0) return;
    this.#keep((sent) => sent.status !== "applied" || (sent.seq ?? 0) > seq);
    const settled = this.#sent.filter((sent) => isSettled(sent.status));
    if (settled.length > MAX_SETTLED) {
      const old = new Set(settled.slice(0, settled.length - MAX_SETTLED));
      this.#keep((sent) => !old.has(sent));
    }
  }

  /** The thread has started over: nothing that was applied will be seen any more. */
  startOver(): void {
    this.#keep((sent) => sent.status !== "applied");
  }

  /** Waits for the next change. */
  change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  announce(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  #keep(wanted: (sent: SentCommand) => boolean): void {
    const kept = this.#sent.filter(wanted);
    if (kept.length === this.#sent.length) return;
    for (const sent of this.#sent) if (!kept.includes(sent)) this.#cache.delete(sent);
    this.#sent = kept;
    this.#rebuild();
  }

  #rebuild(): void {
    this.views = this.#sent.map((sent) => {
      let view = this.#cache.get(sent);
      if (view === undefined) {
        const { frame, status, seq, error } = sent;
        view = { id: frame.id, command: frame.command as CommandView["command"], status, seq, error };
        this.#cache.set(sent, view);
      }
      return view;
    });
  }
}

/** A command on its way. */
export class Sending {
  readonly #thread: Thread;
  readonly #connection: Connection;
  readonly #sent: SentCommand;

  constructor(thread: Thread, connection: Connection, sent: SentCommand) {
    this.#thread = thread;
    this.#connection = connection;
    this.#sent = sent;
  }

  get id(): string {
    return this.#sent.frame.id;
  }

  /** null: not acknowledged yet. */
  get status(): CommandStatus | null {
    return this.#sent.status;
  }

  /** Whether the server knew the id before: nothing was done a second time. */
  get duplicate(): boolean {
    return this.#sent.duplicate;
  }

  /**
   * Waits until the server has the command for good.
   *
   * @throws CommandError where it was refused.
   * @throws ConnectionClosed where the connection was closed for good before; it may have arrived.
   */
  async acknowledged(): Promise<void> {
    await this.#until(() => this.#sent.status !== null);
    if (!this.#sent.acknowledged) throw this.#error();
  }

  /**
   * Waits until the command's effect is in the state that is here, and returns the sequence it is in from.
   *
   * @throws CommandError where it was rejected or cancelled (code `cancelled`).
   * @throws ConnectionClosed where the connection was closed for good before.
   */
  async applied(): Promise<number> {
    await this.#until(() => isSettled(this.#sent.status));
    if (this.#sent.status !== "applied") throw this.#error();
    const seq = this.#sent.seq ?? 0;
    await this.#thread.until((now) => now.failure !== null || (now.position !== null && now.position.seq >= seq), true);
    return seq;
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done()) {
      const status = this.#connection.getStatus();
      if (status.state === "closed") {
        throw status.error ?? new CommandError("connection-closed", "the connection was closed");
      }
      await this.#connection.outgoing(this.#sent.frame.thread).change();
    }
  }

  #error(): CommandError {
    const { error, status } = this.#sent;
    return error === null
      ? new CommandError(status ?? "internal", `the command was ${status}`)
      : new CommandError(error.code, error.message, error.field);
  }
}

export class Thread {
  readonly id: string;
  readonly followed: FollowedThread;
  readonly #connection: Connection;
  readonly #opening: Opening;
  readonly #left: () => void;
  readonly #listeners = new Set<() => void>();
  #closed = false;
  #snapshot: ThreadSnapshot;

  constructor(connection: Connection, opening: Opening, left: () => void) {
    this.id = opening.thread.id;
    this.followed = opening.thread;
    this.#connection = connection;
    this.#opening = opening;
    this.#left = left;
    this.#snapshot = this.#take(null);
  }

  /** The thread as it was shown last; a new object where anything has changed. */
  readonly getSnapshot = (): ThreadSnapshot => this.#snapshot;

  /** Calls `listener` after each change, at most once per picture; returns what ends it. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** The state as it is now, without waiting for the next picture. */
  get state(): Json {
    this.refresh();
    return this.#snapshot.state;
  }

  /**
   * Sends a command, as often as it takes; it has an effect once.
   *
   * @throws InvalidValue for a body that is no JSON value.
   */
  send<Command extends { readonly type: string }>(command: Command, options: SendOptions = {}): Sending {
    const { id = this.#connection.environment.randomId(), strategy } = options;
    if (!COMMAND_ID.test(id)) {
      throw new CommandError("invalid-frame", "a command id is 1 to 128 visible ASCII characters", "id");
    }
    const body = copyIn(command, "command", this.#connection.limits.max_depth);
    const sent = this.#connection.send({ thread: this.id, id, command: body, strategy, agent: this.followed.agent });
    return new Sending(this, this.#connection, sent);
  }

  /**
   * Stops the run of that id, or without one the current run and all that is queued. Returns once the
   * server says that the run has ended, or that there is none.
   *
   * @throws ThreadError where the server won't, or the connection was closed for good.
   */
  async cancel(run?: string): Promise<void> {
    const error = await this.#connection.cancel(this.followed, run);
    if (error !== null) throw new ThreadError(error.code, error.message, error.field);
  }

  /** Lets go of a command that was rejected or cancelled. */
  dismiss(id: string): void {
    this.#connection.outgoing(this.id).dismiss(id);
    this.#connection.touch(this.followed);
  }

  /** Changes which tools this client executes. */
  setTools(tools: readonly string[]): void {
    this.#connection.session.setTools(this.#opening, tools);
    this.#connection.flush();
  }

  /**
   * Waits for a moment of which `predicate` is true. Until `ready` is, the state is null.
   *
   * @param orClosed whether the thread's or the connection's end will do as well
   * @throws ThreadError where the thread or the connection ended before; and whatever the predicate throws.
   */
  until(predicate: (now: ThreadSnapshot) => boolean, orClosed = false): Promise<ThreadSnapshot> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const now = this.#snapshot;
        const over = this.#closed || this.#connection.getStatus().state === "closed";
        try {
          if (!predicate(now) && !(orClosed && over)) {
            if (!over && now.failure === null) return;
            const { code, message } = now.failure ?? { code: "closed", message: "the thread was closed here" };
            reject(new ThreadError(code, message));
          } else resolve(now);
        } catch (error) {
          reject(error);
        }
        stopThread();
        stopConnection();
      };
      const stopThread = this.subscribe(look);
      const stopConnection = this.#connection.subscribe(look);
      look();
    });
  }

  /** Gives the thread up here; runs and commands go on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#left();
    this.#connection.session.close(this.#opening);
    this.#connection.flush();
    for (const listener of [...this.#listeners]) listener();
  }

  /** Takes a new snapshot, and tells the listeners where it differs. */
  refresh(): void {
    const before = this.#snapshot;
    this.#snapshot = this.#take(before);
    if (this.#snapshot !== before) for (const listener of [...this.#listeners]) listener();
  }

  #take(before: ThreadSnapshot | null): ThreadSnapshot {
    const { replica, run, failure, toolCalls } = this.followed;
    replica.settle();
    const position = replica.position;
    const outgoing = this.#connection.outgoing(this.id);
    if (position !== null && before?.position != null && position.seq < before.position.seq) outgoing.startOver();
    outgoing.reached(position?.seq ?? null);
    const calls = [...toolCalls.values()];
    const next: ThreadSnapshot = {
      id: this.id,
      ready: position !== null,
      state: replica.state,
      position,
      run,
      active: run !== null && (run.status === "queued" || run.status === "running"),
      commands: outgoing.views,
      toolCalls: sameItems(before?.toolCalls, calls) ? before!.toolCalls : calls,
      failure,
    };
    const same = before !== null && (Object.keys(next) as (keyof ThreadSnapshot)[]).every((key) => next[key] === before[key]);
    return same ? before : next;
  }
}

const sameItems = <T>(before: readonly T[] | undefined, now: readonly T[]): boolean =>
  before !== undefined && before.length === now.length && before.every((item, index) => item === now[index]);
