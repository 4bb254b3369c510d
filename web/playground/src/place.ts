/** Which thread is shown: it stands in the address, so that it can be reloaded, shared and gone back from. */

import { HttpError } from "@threadwire/client";
import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { http } from "./server.js";

const PREFIX = "#/threads/";

function read(): string | null {
  const { hash } = window.location;
  if (!hash.startsWith(PREFIX)) return null;
  try {
    const id = decodeURIComponent(hash.slice(PREFIX.length));
    return /^[A-Za-z0-9_.:~-]{1,128}$/.test(id) ? id : null;
  } catch {
    return null;
  }
}

const subscribe = (listener: () => void): (() => void) => {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
};

export function useThreadInAddress(): readonly [string | null, (id: string | null) => void] {
  const id = useSyncExternalStore(subscribe, read);
  const go = useCallback((next: string | null) => {
    if (next === read()) return;
    window.history.pushState(null, "", next === null ? window.location.pathname + window.location.search : PREFIX + encodeURIComponent(next));
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  }, []);
  return [id, go];
}

/**
 * Whether a thread that an address names is there; null while that isn't known. Opening one that isn't would
 * make it, and an address that was mistyped, or is of a thread that was deleted, is no wish for that.
 *
 * @param isOwn it was begun here, and needs no asking
 */
export function useIsThere(thread: string | null, isOwn: boolean): boolean | null {
  const [found, setFound] = useState<{ readonly thread: string; readonly isThere: boolean } | null>(null);
  useEffect(() => {
    if (thread === null || isOwn) return;
    let left = false;
    http.thread(thread).then(
      () => !left && setFound({ thread, isThere: true }),
      // Where the server can't be asked, the connection will find out.
      (error: unknown) => !left && setFound({ thread, isThere: !(error instanceof HttpError && error.status === 404) }),
    );
    return () => {
      left = true;
    };
  }, [thread, isOwn]);
  if (thread === null || isOwn) return true;
  return found?.thread === thread ? found.isThere : null;
}
