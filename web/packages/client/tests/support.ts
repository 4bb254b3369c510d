/** A clock, timers and sockets that tests move by hand, and a server played by the test. */

import { type Environment, type Socket, decodeMessage } from "../src/index.js";
import type { ClientFrame, ServerFrame } from "../src/index.js";

export class FakeSocket implements Socket {
  binaryType = "";
  protocol = "threadwire.v1.json";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  closed = false;
  sent: ClientFrame[] = [];

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(data: string | Uint8Array): void {
    this.sent.push(JSON.parse(data as string) as ClientFrame);
  }

  close(): void {
    this.closed = true;
  }

  /** What was sent since the last time. */
  take(): ClientFrame[] {
    return this.sent.splice(0);
  }

  says(...frames: (ServerFrame | { type: string; [key: string]: unknown })[]): void {
    this.onmessage?.({ data: JSON.stringify(frames) } as never);
  }

  welcome(limits: object = {}): void {
    this.onopen?.({} as never);
    this.says({ type: "welcome", protocol: 1, server: "test/1", connection: "c1", agents: ["a"], limits, strategies: [] });
  }

  lose(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason } as never);
  }
}

export class FakeEnvironment implements Environment {
  time = 0;
  sockets: FakeSocket[] = [];
  #timers: { at: number; then: () => void }[] = [];
  #frames = new Set<() => void>();
  #wakers = new Set<() => void>();
  #ids = 0;

  now(): number {
    return this.time;
  }

  timer(ms: number, then: () => void): () => void {
    const timer = { at: this.time + ms, then };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer));
  }

  frame(then: () => void): () => void {
    this.#frames.add(then);
    return () => void this.#frames.delete(then);
  }

  onWake(then: () => void): () => void {
    this.#wakers.add(then);
    return () => void this.#wakers.delete(then);
  }

  socket(url: string, protocols: string[]): FakeSocket {
    const socket = new FakeSocket(url, protocols);
    this.sockets.push(socket);
    return socket;
  }

  randomId(): string {
    return `id${++this.#ids}`;
  }

  /** The newest socket. */
  get last(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  wake(): void {
    for (const waker of this.#wakers) waker();
  }

  /** Draws a picture. */
  draw(): void {
    this.advance(0);
    const frames = [...this.#frames];
    this.#frames.clear();
    for (const then of frames) then();
    this.advance(0);
  }

  get waiting(): { timers: number; frames: number; wakers: number } {
    return { timers: this.#timers.length, frames: this.#frames.size, wakers: this.#wakers.size };
  }

  /** Lets time pass, and all timers fire that are due. */
  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.time = Math.max(this.time, due.at);
      due.then();
    }
    this.time = end;
  }
}

export { decodeMessage };
