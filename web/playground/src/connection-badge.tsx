import { useEffect, useState, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import { connection } from "./server.js";
import { Icon } from "./ui/icons.js";
import { useNow } from "./ui/parts.js";

const PING_EVERY_MS = 5000;

export const useStatus = () => useSyncExternalStore(connection.subscribe, connection.getStatus);

/** The time to the server and back, in milliseconds; null while it isn't known. */
export function useLatency(): number | null {
  const { state } = useStatus();
  const [latency, setLatency] = useState<number | null>(null);
  useEffect(() => {
    setLatency(null);
    if (state !== "online") return;
    let stopped = false;
    const ask = (): void => {
      if (document.visibilityState === "hidden") return;
      void connection.ping().then((time) => {
        if (!stopped) setLatency(time);
      });
    };
    ask();
    const timer = setInterval(ask, PING_EVERY_MS);
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }, [state]);
  return latency;
}

export function ConnectionBadge({ latency }: { readonly latency: number | null }): ReactNode {
  const status = useStatus();
  const name = { online: "Online", connecting: "Connecting", waiting: "Offline", closed: "Closed" }[status.state];
  return (
    <span className={`badge ${status.state}`} role="status" data-testid="connection">
      <span className="dot" aria-hidden="true" />
      {name}
      {status.state === "online" && latency !== null ? <span className="faint"> {Math.max(1, Math.round(latency))} ms</span> : null}
    </span>
  );
}

/** What is to be known while there is no connection. */
export function ConnectionBanner(): ReactNode {
  const status = useStatus();
  const now = useNow(500, status.state === "waiting");
  if (status.state === "closed") {
    return (
      <div className="banner error" role="alert">
        <Icon name="alert" />
        <p>
          <strong>The server has ended the connection.</strong> {status.error?.message}
        </p>
        <button type="button" onClick={() => window.location.reload()}>
          Reload
        </button>
      </div>
    );
  }
  if (status.state === "online" || (status.state === "connecting" && status.attempt <= 1)) return null;
  const seconds = status.state === "waiting" ? Math.max(0, Math.ceil((status.retry_at_ms - now) / 1000)) : 0;
  return (
    <div className="banner" role="status">
      <Icon name="offline" />
      <p>
        <strong>Offline.</strong> What you send is kept, and goes out when the connection is back.
      </p>
      <button type="button" disabled={status.state !== "waiting"} onClick={() => connection.retryNow()}>
        {status.state === "waiting" && seconds > 0 ? `Try now (${seconds} s)` : "Trying…"}
      </button>
    </div>
  );
}
