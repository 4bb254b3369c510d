/** The last messages of the connection, for recorders that come later than what they record. */

import type { Connection, Traffic } from "@threadwire/client";

const MAX_MESSAGES = 100;

export class TrafficLog {
  #messages: Traffic[] = [];

  constructor(connection: Connection) {
    connection.observe((traffic) => {
      this.#messages.push(traffic);
      if (this.#messages.length > 2 * MAX_MESSAGES) this.#messages = this.#messages.slice(-MAX_MESSAGES);
    });
  }

  /** What went by, oldest first. */
  get messages(): readonly Traffic[] {
    return this.#messages;
  }
}
