/** A JSON value as a tree of which only what is on the screen exists. */

import type { Json } from "@threadwire/client";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { CopyButton, IconButton } from "../ui/parts.js";
import { Icon } from "../ui/icons.js";
import { Changes, type Openness, type Row, flatten, pathText, preview } from "./tree-model.js";

const ROW_PX = 24;
const FLASH_MS = 1200;

export interface TreeProps {
  readonly value: Json;
  readonly openness: Openness;
  readonly onOpenness: (openness: Openness) => void;
  /** Changes light up. */
  readonly isLive: boolean;
  /** What changes is brought into view. */
  readonly isFollowing: boolean;
  /** Somebody looks around by hand. */
  readonly onLookAround: () => void;
}

export function Tree({ value, openness, onOpenness, isLive, isFollowing, onLookAround }: TreeProps): ReactNode {
  const rows = useMemo(() => flatten(value, openness), [value, openness]);
  const [changes] = useState(() => new Changes());
  useMemo(() => changes.update(value, rows, performance.now()), [changes, value, rows]);
  const [activeId, setActiveId] = useState("[]");
  const [wide, setWide] = useState<string | null>(null);
  const viewport = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => viewport.current, estimateSize: () => ROW_PX, overscan: 12 });
  const follows = isLive && isFollowing;
  useEffect(() => {
    const at = follows ? changes.last(rows) : -1;
    if (at >= 0) virtual.scrollToIndex(at, { align: "auto" });
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the virtualizer is another with each render
  }, [follows, changes, rows]);
  const found = rows.findIndex((row) => row.id === activeId);
  const active = Math.max(0, found);

  const go = (index: number): void => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (row === undefined) return;
    setActiveId(row.id);
    virtual.scrollToIndex(rows.indexOf(row));
  };
  const toggle = (row: Row): void => {
    if (row.size > 0) onOpenness(openness.with(row.id, !row.isOpen));
    else if (typeof row.value === "string") setWide(wide === row.id ? null : row.id);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    onLookAround();
    const row = rows[active];
    if (row === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor((viewport.current?.clientHeight ?? 0) / ROW_PX) - 1);
    switch (event.key) {
      case "ArrowDown":
        go(active + 1);
        break;
      case "ArrowUp":
        go(active - 1);
        break;
      case "PageDown":
        go(active + page);
        break;
      case "PageUp":
        go(active - page);
        break;
      case "Home":
        go(0);
        break;
      case "End":
        go(rows.length - 1);
        break;
      case "ArrowRight":
        if (row.size > 0 && !row.isOpen) toggle(row);
        else if (row.isOpen) go(active + 1);
        break;
      case "ArrowLeft":
        if (row.isOpen) toggle(row);
        else go(rows.findLastIndex((each, index) => index < active && each.depth < row.depth));
        break;
      case "Enter":
      case " ":
        toggle(row);
        break;
      default:
        return;
    }
    event.preventDefault();
  };
  const shown = rows.find((row) => row.id === wide);
  return (
    <div className="tree-area">
      <div
        className="tree"
        ref={viewport}
        role="tree"
        aria-label="State"
        tabIndex={0}
        aria-activedescendant={rows[active] === undefined ? undefined : `row-${rows[active].id}`}
        onKeyDown={onKeyDown}
        onWheel={onLookAround}
        onPointerDown={onLookAround}
        data-testid="tree"
      >
        <div role="presentation" style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map(({ index, start }) => {
            const row = rows[index];
            if (row === undefined) return null;
            return (
              <TreeRow
                key={row.id}
                row={row}
                top={start}
                isActive={index === active}
                changed={isLive ? changes.at(row.id) : undefined}
                onClick={() => {
                  setActiveId(row.id);
                  toggle(row);
                }}
              />
            );
          })}
        </div>
      </div>
      {shown !== undefined && typeof shown.value === "string" ? (
        <div className="whole-text" role="region" aria-label={`Text of ${pathText(shown.path)}`}>
          <header>
            <code>{pathText(shown.path)}</code>
            <span className="faint">{shown.value.length} characters</span>
            <span className="space" />
            <CopyButton label="Copy the text" text={() => String(shown.value)} />
            <IconButton icon="close" label="Close the text" onClick={() => setWide(null)} />
          </header>
          <pre tabIndex={0}>{shown.value}</pre>
        </div>
      ) : null}
    </div>
  );
}

interface TreeRowProps {
  readonly row: Row;
  readonly top: number;
  readonly isActive: boolean;
  readonly changed: number | undefined;
  readonly onClick: () => void;
}

function TreeRow({ row, top, isActive, changed, onClick }: TreeRowProps): ReactNode {
  const element = useRef<HTMLDivElement>(null);
  const flashed = useRef(changed);
  useEffect(() => {
    if (changed === undefined || changed === flashed.current || performance.now() - changed > FLASH_MS) return;
    flashed.current = changed;
    // Begun anew with each change; a class would have to go and come back for that.
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const colour = getComputedStyle(element.current!).getPropertyValue("--flash");
    element.current?.getAnimations().forEach((animation) => animation.cancel());
    element.current?.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], { duration: FLASH_MS, easing: "ease-out" });
  }, [changed]);
  return (
    <div
      ref={element}
      id={`row-${row.id}`}
      className={`row ${isActive ? "active" : ""}`}
      role="treeitem"
      aria-level={row.depth + 1}
      aria-setsize={row.siblings}
      aria-posinset={row.position}
      aria-selected={isActive}
      aria-expanded={row.size > 0 ? row.isOpen : undefined}
      style={{ transform: `translateY(${top}px)`, paddingInlineStart: 6 + row.depth * 14 }}
      onClick={onClick}
      data-path={row.path.join(".")}
    >
      <span className={`twist ${row.size > 0 ? "" : "none"}`}>{row.size > 0 ? <Icon name={row.isOpen ? "down" : "right"} /> : null}</span>
      {row.name === null ? <span className="key root">state</span> : <span className={typeof row.name === "number" ? "key index" : "key"}>{row.name}</span>}
      <span className={`value ${row.kind}`}>{row.isOpen ? <span className="faint">{row.kind === "array" ? `[${row.size}]` : `{${row.size}}`}</span> : shortValue(row.value, changed)}</span>
    </div>
  );
}

/** Of a text that grows, its end is what there is to see. */
function shortValue(value: Json, changed: number | undefined): string {
  if (typeof value === "string" && value.length > 60 && changed !== undefined && performance.now() - changed < FLASH_MS) {
    return `…${JSON.stringify(value.slice(-60)).slice(1)}`;
  }
  return preview(value, 160);
}
