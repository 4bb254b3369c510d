/** The server's HTTP routes around threads. Spec: PROTOCOL.md §14. */

import { type ErrorInfo, HttpError } from "./errors.js";
import type { Position, RunInfo } from "./frames.js";
import { type Json, type JsonObject, isObject } from "./json.js";
import type { Operation } from "./operations.js";

export interface ThreadRecord {
  readonly id: string;
  readonly agent: string;
  readonly title: string | null;
  readonly archived: boolean;
  /** UNIX seconds. */
  readonly created_at: number;
  readonly updated_at: number;
  readonly custom: JsonObject;
}
export interface ThreadPage {
  readonly threads: readonly ThreadRecord[];
  /** Asks for the next page; null at the end. */
  readonly cursor: string | null;
}
export interface History {
  readonly thread: string;
  readonly floor: Position;
  readonly head: number;
  readonly updates: readonly { readonly epoch: number; readonly seq: number; readonly ops: readonly Operation[] }[];
}
export interface ThreadState extends Position {
  readonly thread: string;
  readonly state: Json;
  readonly run: RunInfo | null;
}
export interface Schemas {
  readonly commands: { readonly [agent: string]: JsonObject };
}

export interface HttpOptions {
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly fetch?: typeof fetch | undefined;
}

/** The address of the HTTP routes beside a WebSocket: `ws://host/ws` → `http://host`. */
export const httpBase = (url: string): string => url.replace(/^ws/, "http").replace(/\/ws\/?(?:[?#].*)?$/, "");

export class HttpClient {
  readonly #base: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #fetch: typeof fetch;

  /** @param base without a slash at its end, such as `http://127.0.0.1:8000` */
  constructor(base: string, options: HttpOptions = {}) {
    this.#base = base;
    this.#headers = options.headers ?? {};
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  threads(query: { agent?: string; archived?: "exclude" | "include" | "only"; limit?: number; cursor?: string } = {}) {
    return this.#request<ThreadPage>("GET", `/threads${searchOf(query)}`);
  }

  create(thread: { id?: string; agent?: string; title?: string | null; custom?: JsonObject } = {}) {
    return this.#request<ThreadRecord>("POST", "/threads", thread);
  }

  thread(id: string) {
    return this.#request<ThreadRecord>("GET", path(id));
  }

  change(id: string, change: { title?: string | null; archived?: boolean; custom?: JsonObject }) {
    return this.#request<ThreadRecord>("PATCH", path(id), change);
  }

  async delete(id: string): Promise<void> {
    await this.#request<null>("DELETE", path(id));
  }

  state(id: string) {
    return this.#request<ThreadState>("GET", `${path(id)}/state`);
  }

  /** A part of the log: updates after the sequence `after`. */
  history(id: string, query: { after?: number; limit?: number } = {}) {
    return this.#request<History>("GET", `${path(id)}/history${searchOf(query)}`);
  }

  schemas() {
    return this.#request<Schemas>("GET", "/schema");
  }

  /** @throws HttpError for an answer of 400 or more, TypeError where there was none. */
  async #request<T>(method: string, route: string, body?: object): Promise<T> {
    const response = await this.#fetch(this.#base + route, {
      method,
      headers: body === undefined ? this.#headers : { ...this.#headers, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new HttpError(response.status, await errorOf(response));
    return (response.status === 204 ? null : await response.json()) as T;
  }
}

const path = (id: string): string => `/threads/${encodeURIComponent(id)}`;

function searchOf(query: { readonly [name: string]: string | number | undefined }): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  const search = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)]));
  return given.length > 0 ? `?${search}` : "";
}

async function errorOf(response: Response): Promise<ErrorInfo> {
  try {
    const body = (await response.json()) as unknown;
    if (isObject(body) && isObject(body["error"]) && typeof body["error"]["code"] === "string") {
      return body["error"] as unknown as ErrorInfo;
    }
  } catch {
    // No answer of this server: of a proxy, perhaps.
  }
  return { code: "http", message: `the server answered ${response.status}` };
}
