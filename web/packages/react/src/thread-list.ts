/** The server's threads as assistant-ui's thread list, kept up to date. */

import type { ExternalStoreAdapter, ThreadMessage } from "@assistant-ui/react";
import { type ErrorInfo, type HttpClient, type ThreadRecord, asErrorInfo } from "@threadwire/client";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

export type ThreadListAdapter = NonNullable<NonNullable<ExternalStoreAdapter<ThreadMessage>["adapters"]>["threadList"]>;

export interface ThreadListOptions {
  readonly http: HttpClient;
  /** The thread that is shown; null for a new one. */
  readonly thread: string | null;
  readonly onThread: (id: string | null) => void;
  /** Only threads of this agent. */
  readonly agent?: string | undefined;
  /** The server can't be reached: it isn't asked until it can. */
  readonly isPaused?: boolean | undefined;
  /** Between two looks at the list while the page is visible, in milliseconds. */
  readonly interval_ms?: number | undefined;
}

export interface ThreadList {
  /** The most recently updated first. */
  readonly threads: readonly ThreadRecord[];
  readonly archived: readonly ThreadRecord[];
  readonly isLoading: boolean;
  readonly error: ErrorInfo | null;
  /** There are more than are listed. */
  readonly hasMore: boolean;
  readonly loadMore: () => void;
  readonly refresh: () => Promise<void>;
  readonly rename: (id: string, title: string) => Promise<void>;
  readonly adapter: ThreadListAdapter;
}

const PAGE = 50;
/** What the server gives at once. */
const MAX_PAGE = 200;
/** The id of a thread that is not there yet. */
export const NEW_THREAD = "new";

export function useThreadList(options: ThreadListOptions): ThreadList {
  const { http, thread, agent, isPaused = false, interval_ms = 5000 } = options;
  const [records, setRecords] = useState<readonly ThreadRecord[]>([]);
  const [isLoading, setLoading] = useState(true);
  const [error, setError] = useState<ErrorInfo | null>(null);
  const [limit, setLimit] = useState(PAGE);
  const [hasMore, setHasMore] = useState(false);
  const latest = useRef(options);
  latest.current = options;
  const asked = useRef(0);

  const refresh = useCallback(async () => {
    const turn = ++asked.current;
    try {
      // A thread that moves up between two pages would be in both.
      const found = new Map<string, ThreadRecord>();
      let cursor: string | null = null;
      do {
        const from: { cursor?: string } = cursor === null ? {} : { cursor };
        const rest = Math.min(limit - found.size, MAX_PAGE);
        const page = await http.threads({ archived: "include", limit: rest, ...(agent === undefined ? {} : { agent }), ...from });
        if (turn !== asked.current) return; // a later question has been answered, or will be
        for (const record of page.threads) if (!found.has(record.id)) found.set(record.id, record);
        cursor = page.cursor;
      } while (cursor !== null && found.size < limit);
      const threads = [...found.values()];
      setRecords((before) => (JSON.stringify(before) === JSON.stringify(threads) ? before : threads));
      setHasMore(cursor !== null);
      setError(null);
    } catch (failure) {
      if (turn === asked.current) setError(asErrorInfo(failure));
    } finally {
      if (turn === asked.current) setLoading(false);
    }
  }, [http, agent, limit]);

  useEffect(() => {
    if (isPaused) return;
    void refresh();
    const look = (): void => {
      if (document.visibilityState === "visible" && navigator.onLine) void refresh();
    };
    const timer = setInterval(look, interval_ms);
    document.addEventListener("visibilitychange", look);
    return () => {
      asked.current += 1;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [refresh, interval_ms, isPaused]);

  const change = useCallback(
    async (what: () => Promise<unknown>) => {
      try {
        await what();
      } catch (failure) {
        setError(asErrorInfo(failure));
      }
      await refresh();
    },
    [refresh],
  );
  const rename = useCallback((id: string, title: string) => change(() => http.change(id, { title })), [change, http]);

  const threads = useMemo(() => records.filter((record) => !record.archived), [records]);
  const archived = useMemo(() => records.filter((record) => record.archived), [records]);
  const adapter = useMemo((): ThreadListAdapter => {
    const data = <Status extends "regular" | "archived">(status: Status, record: ThreadRecord) => ({
      status,
      id: record.id,
      remoteId: record.id,
      title: record.title ?? undefined,
      custom: { agent: record.agent, updated_at: record.updated_at },
    });
    const leave = (id: string): void => {
      if (latest.current.thread === id) latest.current.onThread(null);
    };
    return {
      threadId: thread ?? NEW_THREAD,
      isLoading,
      threads: threads.map((record) => data("regular", record)),
      archivedThreads: archived.map((record) => data("archived", record)),
      onSwitchToNewThread: () => latest.current.onThread(null),
      onSwitchToThread: (id) => latest.current.onThread(id),
      onRename: rename,
      onArchive: (id) => change(() => http.change(id, { archived: true })),
      onUnarchive: (id) => change(() => http.change(id, { archived: false })),
      onDelete: async (id) => {
        leave(id);
        await change(() => http.delete(id));
      },
    };
  }, [thread, isLoading, threads, archived, rename, change, http]);
  const loadMore = useCallback(() => setLimit((before) => before + PAGE), []);
  return { threads, archived, isLoading, error, hasMore, loadMore, refresh, rename, adapter };
}
