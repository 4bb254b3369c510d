/** Which thread is shown: it stands in the address, so that it can be reloaded, shared and gone back from. */

import { useCallback, useSyncExternalStore } from "react";

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
