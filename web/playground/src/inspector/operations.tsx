/** The operations that came, newest first, with filters. */

import type { Operation } from "@threadwire/client";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useRef, useState } from "react";
import { CopyButton } from "../ui/parts.js";
import type { LogEntry, Recorder } from "./recorder.js";
import { pathText, preview } from "./tree-model.js";

const TYPES = ["set", "append-text", "delete", "splice"] as const;
const ROW_PX = 26;

interface OperationRow {
  readonly key: string;
  readonly entry: LogEntry;
  readonly operation: Operation;
}

export function Operations({ recorder, version, onSeq }: { readonly recorder: Recorder; readonly version: number; readonly onSeq: (seq: number) => void }): ReactNode {
  const [off, setOff] = useState<ReadonlySet<string>>(new Set());
  const [text, setText] = useState("");
  const [paused, setPaused] = useState<readonly LogEntry[] | null>(null);
  const viewport = useRef<HTMLDivElement>(null);
  const updates = paused ?? recorder.updates;
  const rows = useMemo(() => {
    const found: OperationRow[] = [];
    const wanted = text.trim().toLowerCase();
    for (let at = updates.length - 1; at >= 0 && found.length < 5000; at--) {
      const entry = updates[at]!;
      for (let index = entry.ops.length - 1; index >= 0; index--) {
        const operation = entry.ops[index]!;
        if (off.has(operation.type)) continue;
        if (wanted !== "" && !pathText(operation.path).toLowerCase().includes(wanted)) continue;
        found.push({ key: `${entry.seq}.${index}`, entry, operation });
      }
    }
    return found;
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the recorder's version says when it has changed
  }, [updates, version, off, text]);
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => viewport.current, estimateSize: () => ROW_PX, overscan: 10, getItemKey: (index) => rows[index]?.key ?? index });
  return (
    <div className="operations">
      <div className="toolbar">
        <input type="search" placeholder="Filter by path" aria-label="Filter by path" value={text} onChange={(event) => setText(event.target.value)} />
        <button type="button" className="button small" aria-pressed={paused !== null} onClick={() => setPaused(paused === null ? recorder.updates.slice() : null)}>
          {paused === null ? "Pause" : "Go on"}
        </button>
        <CopyButton label="Copy these operations as JSON" text={() => JSON.stringify(rows.map(({ entry, operation }) => ({ seq: entry.seq, ...operation })), null, 2)} />
      </div>
      <div className="chips" role="group" aria-label="Types of operations">
        {TYPES.map((type) => (
          <button
            key={type}
            type="button"
            className={`chip ${type}`}
            aria-pressed={!off.has(type)}
            onClick={() => {
              const next = new Set(off);
              if (!next.delete(type)) next.add(type);
              setOff(next);
            }}
          >
            {type}
          </button>
        ))}
        <span className="faint small">{rows.length} shown</span>
      </div>
      {rows.length === 0 ? (
        <div className="empty">
          <p>{updates.length === 0 ? "No operation has come since this page was opened." : "No operation fits the filter."}</p>
        </div>
      ) : (
        <div className="log" ref={viewport} tabIndex={0} role="region" aria-label="Operations, newest first">
          <div role="list" style={{ height: virtual.getTotalSize(), position: "relative" }}>
            {virtual.getVirtualItems().map(({ index, start, key }) => {
              const row = rows[index];
              if (row === undefined) return null;
              const { entry, operation } = row;
              return (
                <div key={key} role="listitem" className="log-row" style={{ transform: `translateY(${start}px)` }}>
                  <button type="button" className="seq-link" title={`Show the state at ${entry.seq}`} onClick={() => onSeq(entry.seq)}>
                    {entry.seq}
                  </button>
                  <span className={`op ${operation.type}`}>{operation.type}</span>
                  <code className="path">{pathText(operation.path)}</code>
                  <span className="value">{detail(operation)}</span>
                </div>
              );
            })}
          </div>
        </div>
      )}
    </div>
  );
}

function detail(operation: Operation): string {
  switch (operation.type) {
    case "set":
      return preview(operation.value);
    case "append-text":
      return preview(operation.value);
    case "delete":
      return "";
    case "splice":
      return `at ${operation.index}: −${operation.delete_count} +${operation.items.length}`;
  }
}
