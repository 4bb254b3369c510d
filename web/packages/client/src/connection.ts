/**
 * Keeps one client session connected: dials, moves frames both ways, watches, dials again.
 *
 * What frames mean is the session's business; what users see of a thread is in `thread`.
 */

import { Backoff, type BackoffOptions } from "./backoff.js";
import { decodeMessage, encodeFrame, messageBytes } from "./codec.js";
import { ConnectionClosed, type ErrorInfo, ProtocolError, ThreadwireError, reconnectAfter } from "./errors.js";
import { type Environment, type Socket, type SocketConstructor, hostEnvironment } from "./environment.js";
import {
  type ClientFrame,
  DEFAULT_LIMITS,
  type Encoding,
  type ErrorFrame,
  type Limits,
  SUBPROTOCOLS,
  type SendFrame,
  type ServerFrame,
  type WelcomeFrame,
} from "./frames.js";
import { Pacer } from "./pacer.js";
import {
  ClientSession,
  type FollowedThread,
  type OpenOptions,
  type SentCancel,
  SentCommand,
  type SessionEvent,
} from "./session.js";
import { Outgoing, Thread } from "./thread.js";

const OPEN_TIMEOUT_MS = 10_000;
/** After waking up, a connection that doesn't answer within this is taken for dead. */
const WAKE_TIMEOUT_MS = 4_000;
/** How many heartbeats may be missed before the connection counts as dead. Spec: PROTOCOL.md §5.6. */
const SILENT_HEARTBEATS = 3;

export type ConnectionStatus =
  | { readonly state: "connecting"; readonly attempt: number }
  | { readonly state: "online" }
  /** It was lost, or couldn't be made; the next try is due at `retry_at_ms` of the environment's clock. */
  | { readonly state: "waiting"; readonly attempt: number; readonly retry_at_ms: number; readonly reason: string }
  /** There will be no further one; without an error, by this side's wish. */
  | { readonly state: "closed"; readonly error: ConnectionClosed | null };

/** A message that went over the connection. */
export interface Traffic {
  readonly direction: "in" | "out";
  readonly frames: readonly (ClientFrame | ServerFrame)[];
  readonly bytes: number;
  /** When, in milliseconds of the environment's clock. */
  readonly at_ms: number;
}

/** Where commands that are not settled wait through a reload of the page. */
export interface Outbox {
  load(): readonly Omit<SendFrame, "type">[];
  save(commands: readonly Omit<SendFrame, "type">[]): void;
}

export interface ConnectOptions {
  readonly encoding?: Encoding | undefined;
  /** Says who connects, where the server needs it; a function is asked anew for each connection. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** A name for the server's logs. */
  readonly client?: string | undefined;
  /** Asks for hashes of all threads, and checks them. */
  readonly hash?: boolean | undefined;
  readonly backoff?: BackoffOptions | undefined;
  readonly outbox?: Outbox | undefined;
  /** The WebSocket to use, where the platform has none of its own. */
  readonly WebSocket?: SocketConstructor | undefined;
  readonly environment?: Environment | undefined;
}

/** Connects, and stays connected until `close`. */
export const connect = (url: string, options: ConnectOptions = {}): Connection => new Connection(url, options);

export class Connection {
  readonly url: string;
  readonly environment: Environment;
  readonly session = new ClientSession();

  readonly #encoding: Encoding;
  readonly #options: ConnectOptions;
  readonly #backoff: Backoff;
  readonly #pacer: Pacer;
  readonly #listeners = new Set<() => void>();
  readonly #observers = new Set<(traffic: Traffic) => void>();
  readonly #problems = new Set<(error: ErrorFrame) => void>();
  readonly #threads = new Set<Thread>();
  readonly #changed = new Set<FollowedThread>();
  readonly #outgoing = new Map<string, Outgoing>();
  readonly #cancels = new Map<SentCancel, () => void>();
  readonly #timers = new Set<() => void>();
  readonly #pings = new Map<number, (answered: boolean) => void>();
  #status: ConnectionStatus = { state: "connecting", attempt: 1 };
  #socket: Socket | null = null;
  #greeted = false;
  #dialled_ms = 0;
  #heard_ms = 0;
  #attempt = 1;
  #stopRetry: (() => void) | null = null;
  #stopWatch: (() => void) | null = null;
  #nextPing = 1;
  readonly #stopWake: () => void;

  constructor(url: string, options: ConnectOptions) {
    this.url = url;
    this.environment = options.environment ?? hostEnvironment(options.WebSocket);
    this.#encoding = options.encoding ?? "json";
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
    this.#pacer = new Pacer(this.environment, () => this.#show());
    this.#stopWake = this.environment.onWake(() => this.#woken());
    for (const frame of options.outbox?.load() ?? []) this.#sent(this.session.send(frame));
    this.#dial();
  }

  // for users

  readonly getStatus = (): ConnectionStatus => this.#status;

  /** What the server said of itself last; null before the first time. */
  readonly getWelcome = (): WelcomeFrame | null => this.session.welcome;

  /** Calls `listener` on each change of the status; returns what ends it. */
  readonly subscribe = (listener: () => void): (() => void) => add(this.#listeners, listener);

  /** Calls `observer` with each message in either direction, for logs and inspectors. */
  observe(observer: (traffic: Traffic) => void): () => void {
    return add(this.#observers, observer);
  }

  /** Calls `listener` when the server complains about something that is neither a thread nor a command. */
  onProblem(listener: (error: ErrorFrame) => void): () => void {
    return add(this.#problems, listener);
  }

  get limits(): Limits {
    return { ...DEFAULT_LIMITS, ...this.session.welcome?.limits };
  }

  /**
   * Follows a thread until `close` of what is returned; its state comes with the first notification.
   *
   * @throws ThreadError `agent-mismatch`, where it is open here under another agent.
   */
  open(thread: string, options: OpenOptions = {}): Thread {
    const handle: Thread = new Thread(this, this.session.open(thread, options), () => this.#threads.delete(handle));
    this.#threads.add(handle);
    this.flush();
    return handle;
  }

  /** The time to the server and back, in milliseconds; null where the connection was lost meanwhile. */
  async ping(): Promise<number | null> {
    const began = this.environment.now();
    return (await this.#ping()) ? this.environment.now() - began : null;
  }

  /** Tries again at once, where it waits to. */
  retryNow(): void {
    if (this.#status.state !== "waiting") return;
    this.#stopRetry?.();
    this.#dial();
  }

  /** Ends the connection for good. Commands that the server doesn't have are not sent any more. */
  close(): void {
    this.#end(null);
  }

  // for threads

  /** Sends what the session has ready. */
  flush(): void {
    const socket = this.#socket;
    if (socket === null || !this.#greeted) return;
    for (let frame = this.session.nextFrame(); frame !== undefined; frame = this.session.nextFrame()) {
      const data = encodeFrame(frame, this.#encoding);
      const bytes = messageBytes(data);
      // The server would answer a frame beyond its limit by closing the connection.
      if (bytes > this.limits.max_frame_bytes) {
        const error = { code: "too-large", message: `${bytes} bytes; the server takes ${this.limits.max_frame_bytes}` };
        this.#follow(this.session.refuse(frame, error));
      } else {
        socket.send(data);
        this.#tell("out", [frame], bytes);
      }
    }
  }

  /** The commands of a thread that were sent here. */
  outgoing(thread: string): Outgoing {
    let outgoing = this.#outgoing.get(thread);
    if (outgoing === undefined) this.#outgoing.set(thread, (outgoing = new Outgoing()));
    return outgoing;
  }

  send(frame: Omit<SendFrame, "type">): SentCommand {
    const sent = this.session.send(frame);
    this.#sent(sent);
    this.#save();
    this.flush();
    return sent;
  }

  async cancel(thread: FollowedThread, run?: string): Promise<ErrorInfo | null> {
    const cancel = this.session.cancel(thread, run);
    this.flush();
    if (!cancel.done) await new Promise<void>((resolve) => this.#cancels.set(cancel, resolve));
    return cancel.error;
  }

  /** Something about the thread is to be shown. */
  touch(thread: FollowedThread): void {
    this.#changed.add(thread);
    this.#pacer.request();
  }

  // sockets, one after the other

  #dial(): void {
    this.#stopRetry = null;
    this.#setStatus({ state: "connecting", attempt: this.#attempt });
    let socket: Socket;
    try {
      socket = this.environment.socket(this.url, [SUBPROTOCOLS[this.#encoding]]);
    } catch (error) {
      // The URL is none, or there is no WebSocket: the same would happen again.
      this.#end(new ConnectionClosed(1006, error instanceof Error ? error.message : String(error)));
      return;
    }
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#greeted = false;
    this.#stopWatch = this.environment.timer(OPEN_TIMEOUT_MS, () => this.#lost(socket, "no answer from the server", 1006));
    this.#dialled_ms = this.environment.now();
    socket.onopen = () => void this.#hello(socket);
    socket.onmessage = (event: { data: string | ArrayBuffer }) => {
      if (socket === this.#socket) this.#receive(socket, event.data);
    };
    socket.onerror = () => {}; // what there is to know comes with the close
    socket.onclose = (event: { code?: number; reason?: string }) => {
      const code = event.code ?? 1006;
      this.#lost(socket, event.reason || (code === 1006 ? "the server can't be reached" : `closed with ${code}`), code);
    };
  }

  async #hello(socket: Socket): Promise<void> {
    const { token, client, hash } = this.#options;
    if (token === undefined && client === undefined && hash === undefined) return;
    try {
      const said = typeof token === "function" ? await token() : token;
      if (socket !== this.#socket) return;
      socket.send(encodeFrame({ type: "hello", token: said, client, hash }, this.#encoding));
    } catch (error) {
      this.#lost(socket, `no token: ${error instanceof Error ? error.message : String(error)}`, 1006);
    }
  }

  #receive(socket: Socket, data: string | ArrayBuffer): void {
    this.#heard_ms = this.environment.now();
    let frames: ServerFrame[];
    try {
      frames = decodeMessage(data, this.#encoding);
      this.#tell("in", frames, typeof data === "string" ? null : data.byteLength, data);
      for (const frame of frames) {
        this.#follow(this.session.receive(frame));
        if (frame.type === "welcome") this.#welcomed();
        else if (frame.type === "pong") this.#pong(frame.nonce);
      }
    } catch (error) {
      if (error instanceof ConnectionClosed) this.#end(error);
      else if (error instanceof ProtocolError) this.#lost(socket, error.message, 1006);
      else throw error;
      return;
    }
    const goodbye = this.session.goodbye;
    if (goodbye?.reconnect === true) this.#lost(socket, goodbye.reason, 1001);
    else this.flush();
  }

  #welcomed(): void {
    this.#greeted = true;
    this.#stopWatch?.();
    this.#watch();
    this.session.connected();
    this.#setStatus({ state: "online" });
  }

  /** Drops a connection on which nothing comes, since a dead peer doesn't say so. */
  #watch(): void {
    const limit_ms = SILENT_HEARTBEATS * this.limits.heartbeat_s * 1000;
    if (limit_ms <= 0) return;
    const socket = this.#socket;
    const look = (): void => {
      if (socket === null || socket !== this.#socket) return;
      const left = this.#heard_ms + limit_ms - this.environment.now();
      if (left <= 0) this.#lost(socket, "nothing was heard from the server", 1006);
      else this.#stopWatch = this.environment.timer(left, look);
    };
    this.#stopWatch = this.environment.timer(limit_ms, look);
  }

  #lost(socket: Socket, reason: string, code: number): void {
    if (socket !== this.#socket) return;
    const goodbye = this.session.goodbye;
    if (this.#greeted && this.environment.now() - this.#dialled_ms >= this.#backoff.stable_ms) this.#attempt = 0;
    this.#drop();
    if (!reconnectAfter(code) || goodbye?.reconnect === false) {
      this.#end(new ConnectionClosed(code, goodbye?.reason ?? reason));
      return;
    }
    this.#attempt += 1;
    const delay = this.#backoff.delay_ms(Math.max(1, this.#attempt - 1));
    this.#stopRetry = this.environment.timer(delay, () => this.#dial());
    const retry_at_ms = this.environment.now() + delay;
    this.#setStatus({ state: "waiting", attempt: this.#attempt, retry_at_ms, reason });
  }

  /** Lets go of the socket. */
  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#greeted = false;
    this.#stopWatch?.();
    this.#stopWatch = null;
    this.session.disconnected();
    for (const answer of this.#pings.values()) answer(false);
    this.#pings.clear();
    for (const thread of this.#threads) this.touch(thread.followed);
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      socket.close(1000);
    } catch {
      // Some sockets can't be closed while they connect; nobody listens to it any more.
    }
  }

  #end(error: ConnectionClosed | null): void {
    if (this.#status.state === "closed") return;
    this.#stopWake();
    this.#stopRetry?.();
    this.#drop();
    for (const stop of this.#timers) stop();
    this.#timers.clear();
    this.#setStatus({ state: "closed", error });
    for (const [cancel, resolve] of this.#cancels) {
      cancel.error = error ?? { code: "connection-closed", message: "the connection was closed" };
      resolve();
    }
    this.#cancels.clear();
    for (const outgoing of this.#outgoing.values()) outgoing.announce();
  }

  #woken(): void {
    if (this.#status.state === "waiting") {
      this.retryNow();
      return;
    }
    const socket = this.#socket;
    if (socket === null || !this.#greeted) return;
    // It may have died while the machine slept. What was on its way already is no sign of life.
    const nonce = this.#nextPing;
    void this.#ping();
    const watch = (since: number): void => {
      const stop = this.environment.timer(WAKE_TIMEOUT_MS, () => {
        this.#timers.delete(stop);
        if (!this.#pings.has(nonce)) return;
        if (this.#heard_ms < since) this.#lost(socket, "nothing was heard after waking up", 1006);
        else watch(this.environment.now());
      });
      this.#timers.add(stop);
    };
    watch(this.environment.now());
  }

  #ping(): Promise<boolean> {
    const socket = this.#socket;
    if (socket === null || !this.#greeted) return Promise.resolve(false);
    const nonce = this.#nextPing++;
    const frame: ClientFrame = { type: "ping", nonce };
    const data = encodeFrame(frame, this.#encoding);
    socket.send(data);
    this.#tell("out", [frame], messageBytes(data));
    return new Promise((resolve) => this.#pings.set(nonce, resolve));
  }

  #pong(nonce: unknown): void {
    this.#pings.get(nonce as number)?.(true);
    this.#pings.delete(nonce as number);
  }

  // what follows

  #follow(events: readonly SessionEvent[]): void {
    for (const event of events) {
      switch (event.kind) {
        case "thread":
        case "tool":
          this.touch(event.thread);
          break;
        case "command":
          this.outgoing(event.command.frame.thread).changed(event.command);
          for (const thread of this.#threads) if (thread.id === event.command.frame.thread) this.touch(thread.followed);
          this.#save();
          break;
        case "cancel":
          this.#cancels.get(event.cancel)?.();
          this.#cancels.delete(event.cancel);
          break;
        case "retry": {
          const stop = this.environment.timer(this.#backoff.delay_ms(event.attempt), () => {
            this.#timers.delete(stop);
            this.session.retry(event.target);
            this.flush();
          });
          this.#timers.add(stop);
          break;
        }
        case "problem":
          for (const listener of this.#problems) listener(event.error);
          break;
      }
    }
  }

  /** Brings what has changed before those who look at it. */
  #show(): void {
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const thread of changed) this.#follow(this.session.settleState(thread));
    this.flush(); // a state that didn't fit is asked for again
    for (const thread of [...this.#threads]) if (changed.includes(thread.followed)) thread.refresh();
  }

  #sent(sent: SentCommand): void {
    this.outgoing(sent.frame.thread).add(sent);
    for (const thread of this.#threads) if (thread.id === sent.frame.thread) this.touch(thread.followed);
  }

  #save(): void {
    this.#options.outbox?.save(this.session.unsettled.map(({ frame: { type: _, ...rest } }) => rest));
  }

  #tell(
    direction: Traffic["direction"],
    frames: Traffic["frames"],
    bytes: number | null,
    data: string | ArrayBuffer = "",
  ): void {
    if (this.#observers.size === 0) return;
    const size = bytes ?? messageBytes(data as string);
    const traffic = { direction, frames, bytes: size, at_ms: this.environment.now() };
    for (const observer of this.#observers) observer(traffic);
  }

  #setStatus(status: ConnectionStatus): void {
    this.#status = status;
    for (const listener of [...this.#listeners]) listener();
  }
}

function add<T>(set: Set<T>, item: T): () => void {
  set.add(item);
  return () => void set.delete(item);
}

/** Any error as a typed one, for callers that show it. */
export function asErrorInfo(error: unknown): ErrorInfo {
  if (error instanceof ThreadwireError) return error;
  return { code: "internal", message: error instanceof Error ? error.message : String(error) };
}
