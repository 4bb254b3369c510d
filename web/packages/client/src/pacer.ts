/**
 * Says when to show what has changed: once per picture, and less often where showing takes long.
 *
 * Without this a page that needs 30 ms to draw a change would do nothing else while tokens stream.
 */

import type { Environment } from "./environment.js";

/** Of the time that showing took, so much is left to everything else. */
const REST = 0.5;

export class Pacer {
  readonly #environment: Environment;
  readonly #show: () => void;
  #stop: (() => void) | null = null;
  #notBefore = 0;

  constructor(environment: Environment, show: () => void) {
    this.#environment = environment;
    this.#show = show;
  }

  /** There is something to show. */
  request(): void {
    if (this.#stop !== null) return;
    const wait = this.#notBefore - this.#environment.now();
    this.#stop = wait > 1 ? this.#environment.timer(wait, () => this.#frame()) : this.#environment.frame(() => this.#now());
  }

  /** Forgets what was requested. */
  stop(): void {
    this.#stop?.();
    this.#stop = null;
  }

  #frame(): void {
    this.#stop = this.#environment.frame(() => this.#now());
  }

  #now(): void {
    this.#stop = null;
    const began = this.#environment.now();
    this.#show();
    // A timer of nothing fires when the page is done with drawing too.
    this.#environment.timer(0, () => {
      const ended = this.#environment.now();
      this.#notBefore = ended + (ended - began) * REST;
    });
  }
}
