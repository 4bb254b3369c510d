/** The server that this page came from. */

import { type Connection, HttpClient, type Outbox, connect } from "@threadwire/client";
import { TrafficLog } from "./inspector/traffic.js";

/** Without a slash at its end; the page may be served below any path. */
const base = new URL(".", document.baseURI).href.replace(/\/$/, "");

const OUTBOX = "threadwire.outbox";

/** What was sent and has not arrived waits through a reload of this window. */
const outbox: Outbox = {
  load() {
    try {
      const found: unknown = JSON.parse(sessionStorage.getItem(OUTBOX) ?? "[]");
      return Array.isArray(found) ? (found as ReturnType<Outbox["load"]>) : [];
    } catch {
      return [];
    }
  },
  save(commands) {
    try {
      sessionStorage.setItem(OUTBOX, JSON.stringify(commands));
    } catch {
      // Full, or switched off: then they live as long as the window.
    }
  },
};

export const http = new HttpClient(base);

/** One for the life of the page. */
export const connection: Connection = connect(`${base.replace(/^http/, "ws")}/ws`, { client: "playground", outbox });

export const traffic = new TrafficLog(connection);
