/** Connections and threads with the life of a component. */

import { type ConnectOptions, Connection, type ConnectionStatus, type OpenOptions, type Thread, type ThreadSnapshot, connect } from "@threadwire/client";
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";

/** A connection that lives as long as the component, or the one that is given. */
export function useOwnConnection(given: Connection | string, options?: ConnectOptions): Connection | null {
  const [own, setOwn] = useState<Connection | null>(null);
  const latest = useRef(options);
  latest.current = options;
  const url = typeof given === "string" ? given : null;
  useEffect(() => {
    if (url === null) return;
    const connection = connect(url, latest.current);
    setOwn(connection);
    return () => {
      connection.close();
      setOwn(null);
    };
  }, [url]);
  return given instanceof Connection ? given : own;
}

/** An open thread that lives as long as the component shows it; null before, and where there is none to show. */
export function useOwnThread(connection: Connection | null, id: string | null, options: OpenOptions): Thread | null {
  const [opened, setOpened] = useState<{ connection: Connection; thread: Thread } | null>(null);
  const latest = useRef(options);
  latest.current = options;
  useEffect(() => {
    if (connection === null || id === null) return;
    const thread = connection.open(id, latest.current);
    setOpened({ connection, thread });
    return () => thread.close();
  }, [connection, id, options.agent]);
  // Between a change and its effect the thread before is still here, and is none of this one's.
  return opened !== null && opened.connection === connection && opened.thread.id === id ? opened.thread : null;
}

const nothing = (): (() => void) => () => {};
const no = (): null => null;

export function useSnapshot(thread: Thread | null): ThreadSnapshot | null {
  return useSyncExternalStore<ThreadSnapshot | null>(thread?.subscribe ?? nothing, thread?.getSnapshot ?? no, thread?.getSnapshot ?? no);
}

const CONNECTING: ConnectionStatus = { state: "connecting", attempt: 1 };

export function useStatusOf(connection: Connection | null): ConnectionStatus {
  const get = useMemo(() => connection?.getStatus ?? ((): ConnectionStatus => CONNECTING), [connection]);
  return useSyncExternalStore(connection?.subscribe ?? nothing, get, get);
}
