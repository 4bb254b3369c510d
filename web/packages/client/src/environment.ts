/**
 * What the client needs of where it runs: a clock, timers, frames, sockets, and news of waking up.
 *
 * Browsers, workers and Node differ in what of it they have; tests bring their own.
 */

/** The part of a WebSocket that is used here; the browser's own, Node's and the `ws` package's fit. */
export interface Socket {
  binaryType: string;
  readonly protocol: string;
  readonly bufferedAmount?: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}
export type SocketConstructor = new (url: string, protocols: string[]) => Socket;

export interface Environment {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Calls `then` once, after `ms`; returns what takes it back. */
  timer(ms: number, then: () => void): () => void;
  /** Calls `then` once, before the next picture is drawn, or soon where none is; returns what takes it back. */
  frame(then: () => void): () => void;
  /** Calls `then` whenever the network comes or goes, or the page comes back; returns what ends it. */
  onWake(then: () => void): () => void;
  socket(url: string, protocols: string[]): Socket;
  /** 128 random bits as text. */
  randomId(): string;
}

interface EventTargetLike {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}
interface Host extends Partial<EventTargetLike> {
  WebSocket?: SocketConstructor;
  document?: EventTargetLike & { readonly visibilityState: string };
  performance: { now(): number };
  crypto: { getRandomValues(bytes: Uint8Array): Uint8Array };
  setTimeout(then: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  requestAnimationFrame?(then: () => void): number;
  cancelAnimationFrame?(frame: number): void;
}

/** Between two looks at the state on a page that nobody sees. */
const HIDDEN_FRAME_MS = 250;

/** The environment found on `globalThis`. */
export function hostEnvironment(WebSocket?: SocketConstructor): Environment {
  const host = globalThis as unknown as Host;
  const timer = (ms: number, then: () => void): (() => void) => {
    const handle = host.setTimeout(then, ms);
    return () => host.clearTimeout(handle);
  };
  return {
    now: () => host.performance.now(),
    timer,
    frame(then) {
      const page = host.document;
      if (host.requestAnimationFrame === undefined || page === undefined) return timer(16, then);
      // A page in the background draws no pictures, and may go there while one is waited for.
      let done = false;
      const once = (): void => {
        if (done) return;
        done = true;
        stop();
        then();
      };
      const stopTimer = timer(HIDDEN_FRAME_MS, once);
      const handle = page.visibilityState === "hidden" ? null : host.requestAnimationFrame(once);
      const stop = (): void => {
        done = true;
        stopTimer();
        if (handle !== null) host.cancelAnimationFrame?.(handle);
      };
      return stop;
    },
    onWake(then) {
      const page = host.document;
      const visible = (): void => {
        if (page?.visibilityState === "visible") then();
      };
      host.addEventListener?.("online", then);
      // A connection doesn't learn of it by itself; and one to this machine may live on.
      host.addEventListener?.("offline", then);
      page?.addEventListener("visibilitychange", visible);
      return () => {
        host.removeEventListener?.("online", then);
        host.removeEventListener?.("offline", then);
        page?.removeEventListener("visibilitychange", visible);
      };
    },
    socket(url, protocols) {
      const Constructor = WebSocket ?? host.WebSocket;
      if (Constructor === undefined) throw new TypeError("no WebSocket here: pass one as an option");
      return new Constructor(url, protocols);
    },
    randomId() {
      const bytes = host.crypto.getRandomValues(new Uint8Array(16));
      return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    },
  };
}
