/** How long to wait before trying again. */

export interface BackoffOptions {
  /** The first wait; each further one in a row is twice as long, up to `cap_ms`. */
  readonly initial_ms?: number;
  readonly cap_ms?: number;
  /** A connection that has lasted so long starts the waits over. */
  readonly stable_ms?: number;
  /** Numbers in [0, 1); each wait is cut by a random part of up to a half. */
  readonly random?: () => number;
}

export class Backoff {
  readonly stable_ms: number;
  readonly #initial_ms: number;
  readonly #cap_ms: number;
  readonly #random: () => number;

  constructor(options: BackoffOptions = {}) {
    this.#initial_ms = options.initial_ms ?? 250;
    this.#cap_ms = options.cap_ms ?? 10_000;
    this.stable_ms = options.stable_ms ?? 10_000;
    this.#random = options.random ?? Math.random;
  }

  /** The wait before the `attempt`-th try in a row, which starts at 1. */
  delay_ms(attempt: number): number {
    const whole = Math.min(this.#cap_ms, this.#initial_ms * 2 ** Math.min(attempt - 1, 40));
    return whole * (1 - this.#random() / 2);
  }
}
