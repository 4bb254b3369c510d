/** The frames of the WebSocket protocol, as they are on the wire in JSON. Spec: PROTOCOL.md §6. */

import type { ErrorInfo } from "./errors.js";
import type { Json } from "./json.js";
import type { Operation } from "./operations.js";

export const PROTOCOL_VERSION = 1;
export const SUBPROTOCOLS = { json: "threadwire.v1.json", msgpack: "threadwire.v1.msgpack" } as const;
export type Encoding = keyof typeof SUBPROTOCOLS;

export type Strategy = "enqueue" | "interrupt" | "rollback" | "reject" | "steer";
export type RunStatus = "queued" | "running" | "waiting" | "completed" | "failed" | "cancelled";
export type CommandStatus = "queued" | "running" | "applied" | "rejected" | "cancelled";

/** The statuses that a run doesn't leave. Spec: PROTOCOL.md §8.1. */
export const hasEnded = (status: RunStatus): boolean =>
  status === "completed" || status === "failed" || status === "cancelled";

/** The statuses that a command doesn't leave. Spec: PROTOCOL.md §7.2. */
export const isSettled = (status: CommandStatus | null): boolean =>
  status === "applied" || status === "rejected" || status === "cancelled";

/** A place in a thread's log. Spec: PROTOCOL.md §4. */
export interface Position {
  readonly epoch: number;
  readonly seq: number;
}

export interface RunInfo {
  readonly id: string;
  readonly status: RunStatus;
  readonly error?: ErrorInfo | null;
}

/** What the server holds clients to: bytes, counts, seconds. Spec: PROTOCOL.md §11.1. */
export interface Limits {
  readonly max_frame_bytes: number;
  readonly max_frames: number;
  readonly max_depth: number;
  readonly max_threads: number;
  readonly max_pending_commands: number;
  readonly max_state_bytes: number;
  readonly heartbeat_s: number;
  readonly unresponsive_s: number;
}

export const DEFAULT_LIMITS: Limits = {
  max_frame_bytes: 1024 * 1024,
  max_frames: 100,
  max_depth: 100,
  max_threads: 1000,
  max_pending_commands: 1000,
  max_state_bytes: 32 * 1024 * 1024,
  heartbeat_s: 15,
  unresponsive_s: 60,
};

// client → server

export interface HelloFrame {
  readonly type: "hello";
  readonly token?: string | undefined;
  readonly client?: string | undefined;
  readonly hash?: boolean | undefined;
}
export interface OpenFrame {
  readonly type: "open";
  readonly thread: string;
  readonly agent?: string | undefined;
  readonly since?: Position | undefined;
  readonly state?: Json | undefined;
  readonly tools?: readonly string[] | undefined;
  readonly hash?: boolean | undefined;
}
export interface CloseFrame {
  readonly type: "close";
  readonly thread: string;
}
export interface SendFrame {
  readonly type: "command";
  readonly thread: string;
  readonly id: string;
  readonly command: Json;
  readonly strategy?: Strategy | undefined;
  readonly agent?: string | undefined;
}
export interface CancelFrame {
  readonly type: "cancel";
  readonly thread: string;
  readonly run?: string | undefined;
}
export interface PingFrame {
  readonly type: "ping";
  readonly nonce?: Json;
}
export type ClientFrame = HelloFrame | OpenFrame | CloseFrame | SendFrame | CancelFrame | PingFrame;

// server → client

export interface WelcomeFrame {
  readonly type: "welcome";
  readonly protocol: number;
  readonly server: string;
  readonly connection: string;
  readonly agents: readonly string[];
  readonly limits: Limits;
  readonly strategies: readonly string[];
}
export interface SnapshotFrame {
  readonly type: "snapshot";
  readonly thread: string;
  readonly epoch: number;
  readonly seq: number;
  readonly state: Json;
  readonly run: RunInfo | null;
  readonly hash?: string;
}
export interface UpdateFrame {
  readonly type: "update";
  readonly thread: string;
  readonly epoch: number;
  readonly seq: number;
  readonly from?: number;
  readonly ops: readonly Operation[];
  readonly hash?: string | null;
}
export interface RunFrame {
  readonly type: "run";
  readonly thread: string;
  readonly run: RunInfo | null;
}
export interface CommandFrame {
  readonly type: "command";
  readonly thread: string;
  readonly id: string;
  readonly status: CommandStatus;
  readonly duplicate?: boolean;
  readonly seq?: number;
  readonly error?: ErrorInfo;
}
export interface HeartbeatFrame {
  readonly type: "heartbeat";
  readonly heads: { readonly [thread: string]: readonly [epoch: number, seq: number] };
}
export interface PongFrame {
  readonly type: "pong";
  readonly nonce: Json;
}
export interface ToolFrame {
  readonly type: "tool";
  readonly thread: string;
  readonly tool_call_id: string;
  readonly name: string;
  readonly args: Json;
}
export interface ErrorFrame extends ErrorInfo {
  readonly type: "error";
  readonly thread?: string;
  readonly id?: string;
}
export interface GoodbyeFrame {
  readonly type: "goodbye";
  readonly reason: string;
  readonly reconnect: boolean;
}
export type ServerFrame =
  | WelcomeFrame
  | SnapshotFrame
  | UpdateFrame
  | RunFrame
  | CommandFrame
  | HeartbeatFrame
  | PongFrame
  | ToolFrame
  | ErrorFrame
  | GoodbyeFrame;

/** The sequence that an update's operations apply to. */
export const baseOf = (update: UpdateFrame): number => update.from ?? update.seq - 1;
