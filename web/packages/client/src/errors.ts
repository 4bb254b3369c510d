/**
 * What can go wrong, as one tree:
 *
 *     ThreadwireError       code, message, field?
 *     ├─ InvalidOperation   an operation doesn't fit the state it is for
 *     ├─ InvalidValue       a value that no state or command can hold
 *     ├─ ProtocolError      the server sent what is no message of the protocol
 *     ├─ CommandError       a command was rejected or cancelled
 *     ├─ ThreadError        a thread can't be followed (any longer)
 *     ├─ HttpError          an HTTP request was refused; has `status`
 *     └─ ConnectionClosed   there will be no further connection; has `closeCode`
 */

/** Why something was refused, as it stands in frames and HTTP bodies. Spec: PROTOCOL.md §6.5. */
export interface ErrorInfo {
  readonly code: string;
  readonly message: string;
  readonly field?: string | undefined;
}

export class ThreadwireError extends Error implements ErrorInfo {
  readonly code: string;
  readonly field: string | undefined;

  constructor(code: string, message: string, field?: string) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.field = field;
  }
}

export class InvalidOperation extends ThreadwireError {}
export class InvalidValue extends ThreadwireError {}
export class ProtocolError extends ThreadwireError {}
export class CommandError extends ThreadwireError {}
export class ThreadError extends ThreadwireError {}

export class HttpError extends ThreadwireError {
  readonly status: number;

  constructor(status: number, info: ErrorInfo) {
    super(info.code, info.message, info.field);
    this.status = status;
  }
}

export class ConnectionClosed extends ThreadwireError {
  readonly closeCode: number;

  constructor(closeCode: number, message: string) {
    super("connection-closed", message);
    this.closeCode = closeCode;
  }
}

const FINAL_CLOSE_CODES: ReadonlySet<number> = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

/** Whether trying again makes sense after a connection ended with this code. Spec: PROTOCOL.md §12.2. */
export const reconnectAfter = (code: number): boolean =>
  !FINAL_CLOSE_CODES.has(code) && !(code >= 4400 && code < 4500);

/** Codes that say: the same again, later. Spec: PROTOCOL.md §7.8. */
export const TEMPORARY: ReadonlySet<string> = new Set([
  "store-unavailable",
  "overloaded",
  "draining",
  "too-many-pending",
]);
