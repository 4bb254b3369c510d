/** The thread list against an HTTP client that the test plays. */

import type { HttpClient, ThreadRecord } from "@threadwire/client";
import { act } from "react";
import { type Root, createRoot } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type ThreadList, type ThreadListOptions, useThreadList } from "../src/index.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

const record = (id: string, more: Partial<ThreadRecord> = {}): ThreadRecord => ({
  id, agent: "a", title: `Title ${id}`, archived: false, created_at: 1, updated_at: 2, custom: {}, ...more,
});

let records: ThreadRecord[];
let root: Root;
let list: ThreadList;
const asked = vi.fn();
const onThread = vi.fn();
const http = {
  threads: async (query: object) => {
    asked(query);
    return { threads: records, cursor: null };
  },
  change: async (id: string, change: object) => {
    records = records.map((each) => (each.id === id ? { ...each, ...change } : each));
  },
  delete: async (id: string) => {
    records = records.filter((each) => each.id !== id);
  },
} as unknown as HttpClient;

function Probe(options: Partial<ThreadListOptions>) {
  list = useThreadList({ http, thread: "t1", onThread, ...options });
  return null;
}
const show = (options: Partial<ThreadListOptions> = {}) => act(async () => root.render(<Probe {...options} />));

beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  records = [record("t1"), record("t2", { archived: true }), record("t3", { title: null })];
  root = createRoot(document.createElement("div"));
});
afterEach(async () => {
  await act(async () => root.unmount());
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

test("threads are listed, the archived ones apart, and asked for again in time", async () => {
  await show();
  expect(list.isLoading).toBe(false);
  expect(list.adapter.threads!.map(({ id, title }) => [id, title])).toEqual([["t1", "Title t1"], ["t3", undefined]]);
  expect(list.adapter.archivedThreads!.map(({ id }) => id)).toEqual(["t2"]);
  const before = list.adapter;
  await act(async () => void (await vi.advanceTimersByTimeAsync(5000)));
  expect(asked).toHaveBeenCalledTimes(2);
  expect(list.adapter).toBe(before);
  records = [record("t4"), ...records];
  await act(async () => void (await vi.advanceTimersByTimeAsync(5000)));
  expect(list.adapter.threads![0]!.id).toBe("t4");
});

test("a server that can't be reached isn't asked", async () => {
  await show({ isPaused: true });
  await act(async () => void (await vi.advanceTimersByTimeAsync(20_000)));
  expect(asked).not.toHaveBeenCalled();
  await show({ isPaused: false });
  expect(asked).toHaveBeenCalledTimes(1);
});

test("threads are renamed, archived, restored and deleted", async () => {
  await show();
  await act(async () => list.rename("t3", "Third"));
  expect(list.threads.map((each) => each.title)).toEqual(["Title t1", "Third"]);
  await act(async () => list.adapter.onArchive!("t3"));
  expect(list.archived.map((each) => each.id)).toEqual(["t2", "t3"]);
  await act(async () => list.adapter.onUnarchive!("t2"));
  expect(list.threads.map((each) => each.id)).toEqual(["t1", "t2"]);
  await act(async () => list.adapter.onDelete!("t1"));
  expect(onThread).toHaveBeenCalledExactlyOnceWith(null);
  expect(list.threads.map((each) => each.id)).toEqual(["t2"]);
});

test("what can't be done is told, and the list stays", async () => {
  await show();
  const broken = vi.spyOn(http, "threads").mockRejectedValue(new Error("no network"));
  await act(async () => list.refresh());
  expect(list.error).toMatchObject({ message: "no network" });
  expect(list.threads).toHaveLength(2);
  broken.mockRestore();
  await act(async () => list.refresh());
  expect(list.error).toBeNull();
});

test("more threads than the server gives at once are read page by page, each once", async () => {
  const all = Array.from({ length: 230 }, (_, index) => record(`t${index}`));
  const pages = vi.spyOn(http, "threads").mockImplementation(async ({ limit, cursor } = {}) => {
    // A thread that moves up between two pages is in both.
    const from = cursor === undefined ? 0 : Number(cursor) - 1;
    const threads = all.slice(from, from + limit!);
    return { threads, cursor: from + limit! < all.length ? String(from + limit!) : null };
  });
  await show();
  expect(list.threads).toHaveLength(50);
  for (let more = 0; more < 4; more++) {
    expect(list.hasMore).toBe(true);
    await act(async () => list.loadMore());
  }
  expect(list.threads.map((each) => each.id)).toEqual(all.map((each) => each.id));
  expect(list.hasMore).toBe(false);
  pages.mockRestore();
});
