/**
 * Remembers what went by on one thread: states by position, operations, runs, commands, bytes.
 *
 * States are kept as keyframes with the updates between; they share what they have in common, so a
 * keyframe costs what has changed. All lists are rings. Listeners are told ten times a second.
 */

import {
  type CommandStatus,
  type Connection,
  type ErrorInfo,
  type Json,
  type Operation,
  type RunStatus,
  type ServerFrame,
  type Thread,
  type Traffic,
  apply,
  baseOf,
} from "@threadwire/client";

export interface LogEntry {
  readonly from: number;
  readonly seq: number;
  readonly ops: readonly Operation[];
  /** When it came, in milliseconds of the page's clock; null for what was read from the log later. */
  readonly at_ms: number | null;
}
export interface RunEntry {
  readonly id: string;
  status: RunStatus;
  error: ErrorInfo | null;
  readonly began_ms: number;
  ended_ms: number | null;
  /** It had begun before anyone looked. */
  readonly partial: boolean;
}
export interface CommandEntry {
  readonly id: string;
  readonly type: string;
  status: CommandStatus | null;
  error: ErrorInfo | null;
  readonly sent_ms: number;
  acknowledged_ms: number | null;
  settled_ms: number | null;
  seq: number | null;
}
export interface Counters {
  readonly messagesIn: number;
  readonly messagesOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly updates: number;
  readonly operations: number;
  /** Over the last two seconds, per second. */
  readonly bytesRate: number;
  readonly updatesRate: number;
  /** To the server and back, in milliseconds; null before the first answer. */
  readonly latency_ms: number | null;
}

const MAX_UPDATES = 20_000;
const MAX_ENTRIES = 200;
const KEYFRAME_EVERY = 100;
const TOLD_EVERY_MS = 100;
const RATE_OVER_MS = 2000;
const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);
const SETTLED: ReadonlySet<string> = new Set(["applied", "rejected", "cancelled"]);

export class Recorder {
  readonly runs: RunEntry[] = [];
  readonly commands: CommandEntry[] = [];
  /** Changes with everything that is recorded. */
  version = 0;
  latency_ms: number | null = null;

  #updates: LogEntry[] = [];
  #keyframes: { seq: number; state: Json }[] = [];
  readonly #thread: Thread;
  readonly #listeners = new Set<() => void>();
  readonly #now: () => number;
  readonly #stops: (() => void)[];
  #timer: ReturnType<typeof setTimeout> | null = null;
  #counts = { messagesIn: 0, messagesOut: 0, bytesIn: 0, bytesOut: 0, updates: 0, operations: 0 };
  #recent: { at: number; bytes: number; updates: number }[] = [];
  #cached: { seq: number; state: Json } | null = null;

  /** @param past what went by already; of that, what concerns the thread is recorded too */
  constructor(connection: Connection, thread: Thread, past: readonly Traffic[] = []) {
    this.#thread = thread;
    this.#now = () => connection.environment.now();
    this.#stops = [connection.observe((traffic) => this.#see(traffic)), thread.subscribe(() => this.#look())];
    this.#catchUp(past);
    const { run } = thread.getSnapshot();
    if (run !== null) this.#run(run.id, run.status, run.error ?? null, true, this.#now());
    this.#look();
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };
  readonly getVersion = (): number => this.version;

  /** All updates that are remembered, oldest first. */
  get updates(): readonly LogEntry[] {
    return this.#updates;
  }

  /** The sequences that `stateAt` knows states of: from, to. */
  get range(): readonly [number, number] {
    const first = this.#keyframes[0]?.seq ?? 0;
    return [first, Math.max(first, this.#updates.at(-1)?.seq ?? 0, this.#keyframes.at(-1)?.seq ?? 0)];
  }

  get counters(): Counters {
    const since = this.#now() - RATE_OVER_MS;
    this.#recent = this.#recent.filter((each) => each.at >= since);
    const sum = (key: "bytes" | "updates"): number => this.#recent.reduce((total, each) => total + each[key], 0);
    const seconds = RATE_OVER_MS / 1000;
    return { ...this.#counts, bytesRate: sum("bytes") / seconds, updatesRate: sum("updates") / seconds, latency_ms: this.latency_ms };
  }

  /** The state at a sequence, or at the nearest one before it that an update ended at; undefined outside of the range. */
  stateAt(seq: number): Json | undefined {
    const keyframe = this.#keyframes.findLast((each) => each.seq <= seq);
    if (keyframe === undefined) return undefined;
    let { state } = keyframe;
    let at = keyframe.seq;
    if (this.#cached !== null && this.#cached.seq <= seq && this.#cached.seq > at) ({ state, seq: at } = this.#cached);
    for (let index = this.#after(at); index < this.#updates.length; index++) {
      const update = this.#updates[index]!;
      if (update.seq > seq) break;
      if (update.from !== at) break; // a gap: a snapshot came in between
      state = apply(state, update.ops);
      at = update.seq;
    }
    this.#cached = { seq: at, state };
    return state;
  }

  /** Adds what the log has from before anyone looked: rows from the very beginning up to what is known. */
  prepend(rows: readonly { readonly seq: number; readonly ops: readonly Operation[] }[]): void {
    const known = this.#keyframes[0]?.seq ?? 0;
    const earlier = rows.filter((row) => row.seq <= known).map(({ seq, ops }): LogEntry => ({ from: seq - 1, seq, ops, at_ms: null }));
    if (earlier[0]?.seq !== 1) return;
    const keyframes: { seq: number; state: Json }[] = [{ seq: 0, state: {} }];
    let state: Json = {};
    for (const update of earlier) {
      state = apply(state, update.ops);
      if (update.seq % KEYFRAME_EVERY === 0) keyframes.push({ seq: update.seq, state });
    }
    this.#updates = [...earlier, ...this.#updates.filter((update) => update.seq > known)];
    this.#keyframes = [...keyframes, ...this.#keyframes.filter((each) => each.seq > earlier.at(-1)!.seq)];
    this.#cached = null;
    this.#changed();
  }

  /** The index of the first update after a sequence. */
  #after(seq: number): number {
    let low = 0;
    let high = this.#updates.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#updates[middle]!.seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Takes the messages from the last subscription to the thread on, and the commands before it. */
  #catchUp(past: readonly Traffic[]): void {
    const { id } = this.#thread;
    const about = past.filter(({ frames }) => frames.some((frame) => "thread" in frame && frame.thread === id));
    const opened = about.findLastIndex(({ frames }) => frames.some((frame) => frame.type === "snapshot"));
    for (const [index, traffic] of about.entries()) {
      // What came before the snapshot is in it.
      const frames = index >= opened ? traffic.frames : traffic.frames.filter((frame) => frame.type === "command");
      if (frames.length > 0) this.#see({ ...traffic, frames });
    }
  }

  #see({ direction, frames, bytes, at_ms }: Traffic): void {
    if (direction === "in") {
      this.#counts.messagesIn += 1;
      this.#counts.bytesIn += bytes;
    } else {
      this.#counts.messagesOut += 1;
      this.#counts.bytesOut += bytes;
    }
    let updates = 0;
    for (const frame of frames) {
      if (!("thread" in frame) || frame.thread !== this.#thread.id) continue;
      if (frame.type === "update" && direction === "in") updates += 1;
      if (direction === "in") this.#receive(frame as ServerFrame, at_ms);
      else if (frame.type === "command" && "command" in frame) {
        const type = (frame.command as { type?: unknown }).type;
        if (!this.commands.some((each) => each.id === frame.id)) {
          this.commands.push({
            id: frame.id,
            type: typeof type === "string" ? type : "?",
            status: null,
            error: null,
            sent_ms: at_ms,
            acknowledged_ms: null,
            settled_ms: null,
            seq: null,
          });
          if (this.commands.length > MAX_ENTRIES) this.commands.shift();
        }
      }
    }
    this.#recent.push({ at: at_ms, bytes, updates });
    this.#changed();
  }

  #receive(frame: ServerFrame, at_ms: number): void {
    switch (frame.type) {
      case "snapshot":
        if (this.#keyframes.length > 0 && frame.seq < this.range[1]) {
          // The thread has started over.
          this.#updates = [];
          this.#keyframes = [];
          this.#cached = null;
        }
        this.#keyframe(frame.seq, frame.state);
        if (frame.run !== null) this.#run(frame.run.id, frame.run.status, frame.run.error ?? null, true, at_ms);
        break;
      case "update":
        if (frame.ops.length === 0 && frame.seq === baseOf(frame)) break; // only a hash
        if (frame.seq <= (this.#updates.at(-1)?.seq ?? -1)) break;
        this.#updates.push({ from: baseOf(frame), seq: frame.seq, ops: frame.ops, at_ms });
        this.#counts.updates += 1;
        this.#counts.operations += frame.ops.length;
        this.#trim();
        break;
      case "run":
        if (frame.run !== null) this.#run(frame.run.id, frame.run.status, frame.run.error ?? null, false, at_ms);
        break;
      case "command": {
        const entry = this.commands.findLast((each) => each.id === frame.id);
        if (entry === undefined) break;
        entry.status = frame.status;
        entry.acknowledged_ms ??= at_ms;
        entry.error = frame.error ?? null;
        entry.seq = frame.seq ?? null;
        if (SETTLED.has(frame.status)) entry.settled_ms ??= at_ms;
        break;
      }
    }
  }

  #run(id: string, status: RunStatus, error: ErrorInfo | null, partial: boolean, at: number): void {
    let entry = this.runs.findLast((each) => each.id === id);
    if (entry === undefined) {
      entry = { id, status, error, began_ms: at, ended_ms: null, partial: partial || ENDED.has(status) };
      this.runs.push(entry);
      if (this.runs.length > MAX_ENTRIES) this.runs.shift();
    }
    entry.status = status;
    entry.error = error;
    if (ENDED.has(status)) entry.ended_ms ??= at;
  }

  #look(): void {
    const { position, state } = this.#thread.getSnapshot();
    if (position === null) return;
    const last = this.#keyframes.at(-1);
    if (last === undefined || position.seq >= last.seq + KEYFRAME_EVERY) this.#keyframe(position.seq, state);
  }

  #keyframe(seq: number, state: Json): void {
    if (this.#keyframes.some((each) => each.seq === seq)) return;
    this.#keyframes.push({ seq, state });
    this.#keyframes.sort((a, b) => a.seq - b.seq);
    this.#changed();
  }

  #trim(): void {
    if (this.#updates.length <= MAX_UPDATES) return;
    const cut = this.#updates[this.#updates.length - MAX_UPDATES + MAX_UPDATES / 10]!.seq;
    const keyframe = this.#keyframes.findLast((each) => each.seq <= cut);
    if (keyframe === undefined) return;
    this.#updates = this.#updates.slice(this.#after(keyframe.seq));
    this.#keyframes = this.#keyframes.filter((each) => each.seq >= keyframe.seq);
  }

  #changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.version += 1;
      for (const listener of [...this.#listeners]) listener();
    }, TOLD_EVERY_MS);
  }
}
