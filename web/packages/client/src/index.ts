export { Backoff, type BackoffOptions } from "./backoff.js";
export { canonical, equal, stateHash } from "./canonical.js";
export { decodeMessage, encodeFrame, messageBytes } from "./codec.js";
export {
  type ConnectOptions,
  Connection,
  type ConnectionStatus,
  type Outbox,
  type Traffic,
  asErrorInfo,
  connect,
} from "./connection.js";
export { type Environment, type Socket, type SocketConstructor, hostEnvironment } from "./environment.js";
export {
  CommandError,
  ConnectionClosed,
  type ErrorInfo,
  HttpError,
  InvalidOperation,
  InvalidValue,
  ProtocolError,
  ThreadError,
  ThreadwireError,
  reconnectAfter,
} from "./errors.js";
export * from "./frames.js";
export {
  type History,
  HttpClient,
  type HttpOptions,
  type Schemas,
  type ThreadPage,
  type ThreadRecord,
  type ThreadState,
  httpBase,
} from "./http.js";
export { type Json, type JsonObject, isObject } from "./json.js";
export { type Operation, type Path, type Segment, apply, formatPath } from "./operations.js";
export { type Outcome, Replica } from "./replica.js";
export { ClientSession, FollowedThread, type OpenOptions, SentCommand, type SessionEvent } from "./session.js";
export { type CommandView, type SendOptions, Sending, Thread, type ThreadSnapshot } from "./thread.js";
export { copyIn } from "./values.js";
