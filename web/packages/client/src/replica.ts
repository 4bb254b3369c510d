/**
 * One thread's state as a client holds it, moved along the log by snapshots and updates.
 *
 * Operations wait until `settle`, which applies all of them in one go: a screen shows sixty states
 * a second at most, and the states between are nobody's. Positions don't wait.
 *
 * Spec: PROTOCOL.md §4.5.
 */

import { stateHash } from "./canonical.js";
import { InvalidOperation } from "./errors.js";
import { type Position, type SnapshotFrame, type UpdateFrame, baseOf } from "./frames.js";
import type { Json } from "./json.js";
import { type Operation, apply } from "./operations.js";

/** What a frame did: it was taken in; it doesn't lead on from here; it showed that the replica is wrong. */
export type Outcome = "applied" | "misfit" | "diverged";

/** More operations than this don't wait: nobody may be looking, and they take memory. */
const MAX_WAITING = 5000;

export class Replica {
  #state: Json = null;
  #settled: Position | null = null;
  #head: Position | null = null;
  #waiting: Operation[] = [];
  #diverged = false;

  /** The state at `position`. */
  get state(): Json {
    return this.#state;
  }

  /** Where `state` is in the log; null before the first snapshot. */
  get position(): Position | null {
    return this.#settled;
  }

  /** Where the log has been followed to, operations that wait included. */
  get head(): Position | null {
    return this.#head;
  }

  /** Where to resume the log; null asks for a snapshot. */
  get since(): Position | null {
    return this.#diverged ? null : this.#head;
  }

  /** Puts the frame's state in the place of all there was. */
  snapshot(frame: SnapshotFrame): Outcome {
    this.#waiting = [];
    if (frame.hash != null && stateHash(frame.state) !== frame.hash) return this.#diverge();
    const here = this.#diverged ? null : this.#settled;
    if (here?.epoch !== frame.epoch || here.seq !== frame.seq) this.#state = frame.state;
    // Else it is the state that is here, which keeps its identity.
    this.#settled = this.#head = { epoch: frame.epoch, seq: frame.seq };
    this.#diverged = false;
    return "applied";
  }

  /** Takes the operations in, if they lead on from here. */
  update(frame: UpdateFrame): Outcome {
    const here = this.since;
    if (here === null || baseOf(frame) !== here.seq) return "misfit";
    for (const operation of frame.ops) this.#waiting.push(operation);
    this.#head = { epoch: frame.epoch, seq: frame.seq };
    if (frame.hash != null) {
      const before = this.#state;
      const position = this.#settled;
      if (this.settle() === "diverged") return "diverged";
      if (stateHash(this.#state) !== frame.hash) {
        this.#state = before;
        this.#settled = position;
        return this.#diverge();
      }
    } else if (this.#waiting.length > MAX_WAITING) {
      return this.settle();
    }
    return "applied";
  }

  /** Applies what waits. */
  settle(): Outcome {
    if (this.#head === this.#settled) return "applied";
    try {
      if (this.#waiting.length > 0) this.#state = apply(this.#state, this.#waiting);
    } catch (error) {
      if (error instanceof InvalidOperation) return this.#diverge();
      throw error;
    }
    this.#waiting = [];
    this.#settled = this.#head;
    return "applied";
  }

  #diverge(): Outcome {
    this.#waiting = [];
    this.#head = this.#settled;
    this.#diverged = true;
    return "diverged";
  }
}
