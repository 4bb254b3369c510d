/** The state as a tree, now or at any sequence, and what differs between two of them. */

import { type Json, type JsonObject, HttpError } from "@threadwire/client";
import { useThreadSnapshot } from "@threadwire/react";
import { type ReactNode, useCallback, useDeferredValue, useMemo, useState } from "react";
import { http } from "../server.js";
import { Icon } from "../ui/icons.js";
import { CopyButton, IconButton, Spinner } from "../ui/parts.js";
import type { Recorder } from "./recorder.js";
import { Tree } from "./tree.js";
import { Openness, differences, pathText, preview } from "./tree-model.js";

export interface StatePanelProps {
  readonly recorder: Recorder;
  readonly version: number;
  /** The sequence that is looked at; null is now. */
  readonly seq: number | null;
  readonly onSeq: (seq: number | null) => void;
}

export function StatePanel({ recorder, version, seq, onSeq }: StatePanelProps): ReactNode {
  const [isFollowing, setFollowing] = useState(true);
  const lookAround = useCallback(() => setFollowing(false), []);
  const [compare, setCompare] = useState<number | null>(null);
  const ready = useThreadSnapshot((snapshot) => snapshot?.ready ?? false);
  const [first, last] = recorder.range;
  const shown = seq === null ? last : Math.min(Math.max(seq, first), last);
  // eslint-disable-next-line react-hooks/exhaustive-deps -- the recorder's version says when it has changed
  const state = useMemo(() => recorder.stateAt(shown), [recorder, version, shown]);
  const deferred = useDeferredValue(state);
  const [openness, setOpenness] = useState(() => Openness.fitting(state ?? null));
  if (!ready || state === undefined || deferred === undefined) {
    return (
      <div className="empty" role="status">
        <Spinner /> Loading the state…
      </div>
    );
  }
  return (
    <div className="state-panel">
      <div className="toolbar">
        <button type="button" className="link" onClick={() => setOpenness(Openness.all(30))}>
          Open all
        </button>
        <button type="button" className="link" onClick={() => setOpenness(Openness.all(1))}>
          Close all
        </button>
        <span className="space" />
        <label className="check small">
          <input type="checkbox" checked={isFollowing} onChange={(event) => setFollowing(event.target.checked)} />
          follow changes
        </label>
        <CopyButton label="Copy the state as JSON" text={() => JSON.stringify(state, null, 2)} />
      </div>
      {compare === null ? (
        <Tree value={deferred} openness={openness} onOpenness={setOpenness} isLive={seq === null} isFollowing={isFollowing} onLookAround={lookAround} />
      ) : (
        <Comparison recorder={recorder} version={version} from={compare} to={shown} />
      )}
      <Travel recorder={recorder} first={first} last={last} seq={seq} onSeq={onSeq} compare={compare} onCompare={setCompare} />
    </div>
  );
}

interface TravelProps {
  readonly recorder: Recorder;
  readonly first: number;
  readonly last: number;
  readonly seq: number | null;
  readonly onSeq: (seq: number | null) => void;
  readonly compare: number | null;
  readonly onCompare: (seq: number | null) => void;
}

function Travel({ recorder, first, last, seq, onSeq, compare, onCompare }: TravelProps): ReactNode {
  const id = useThreadSnapshot((snapshot) => snapshot?.id ?? "");
  const [loading, setLoading] = useState(false);
  const [note, setNote] = useState<string | null>(null);
  const shown = seq === null ? last : Math.min(Math.max(seq, first), last);
  const step = (by: number): void => onSeq(Math.min(last, Math.max(first, shown + by)));
  const load = async (): Promise<void> => {
    setLoading(true);
    try {
      setNote(await loadHistory(recorder, id, first));
    } catch (error) {
      setNote(error instanceof HttpError ? error.message : "The log can't be read now.");
    } finally {
      setLoading(false);
    }
  };
  return (
    <div className="travel" role="group" aria-label="Time travel">
      <div className="travel-row">
        <IconButton icon="left" label="One sequence back" disabled={shown <= first} onClick={() => step(-1)} />
        <input
          type="range"
          min={first}
          max={Math.max(last, first + 1)}
          value={shown}
          disabled={last <= first}
          aria-label="Sequence"
          aria-valuetext={seq === null ? `${shown}, live` : `${shown} of ${last}`}
          onChange={(event) => onSeq(Number(event.target.value))}
        />
        <IconButton icon="right" label="One sequence on" disabled={shown >= last} onClick={() => step(1)} />
        <output className="seq" data-testid="seq">
          {shown}
          <span className="faint"> / {last}</span>
        </output>
        <button type="button" className={`live ${seq === null ? "on" : ""}`} aria-pressed={seq === null} onClick={() => onSeq(seq === null ? shown : null)}>
          <Icon name="live" /> Live
        </button>
      </div>
      <div className="travel-row small">
        <label className="check">
          <input type="checkbox" checked={compare !== null} onChange={(event) => onCompare(event.target.checked ? Math.max(first, shown - 1) : null)} />
          compare with
        </label>
        {compare === null ? null : (
          <input
            type="number"
            className="seq-field"
            aria-label="Sequence to compare with"
            min={first}
            max={last}
            value={compare}
            onChange={(event) => {
              const wanted = Number(event.target.value);
              if (event.target.value !== "" && Number.isInteger(wanted)) onCompare(Math.min(last, Math.max(first, wanted)));
            }}
          />
        )}
        <span className="space" />
        {note === null ? null : <span className="faint" role="status">{note}</span>}
        {first > 0 && note === null ? (
          <button type="button" className="link" disabled={loading} onClick={() => void load()}>
            {loading ? "Loading…" : `Load what was before ${first}`}
          </button>
        ) : null}
      </div>
    </div>
  );
}

/** Reads the log up to a sequence; returns what is to be said about it. */
async function loadHistory(recorder: Recorder, id: string, upTo: number): Promise<string | null> {
  const rows: { readonly seq: number; readonly ops: Parameters<Recorder["prepend"]>[0][number]["ops"] }[] = [];
  for (let after = 0; after < upTo; ) {
    let page;
    try {
      page = await http.history(id, { after, limit: 1000 });
    } catch (error) {
      if (error instanceof HttpError && error.code === "history-gone") return "The beginning of the log is no longer kept.";
      throw error;
    }
    const last = page.updates.at(-1);
    if (last === undefined) break;
    rows.push(...page.updates);
    after = last.seq;
  }
  recorder.prepend(rows);
  return null;
}

function Comparison({ recorder, version, from, to }: { readonly recorder: Recorder; readonly version: number; readonly from: number; readonly to: number }): ReactNode {
  const [low, high] = from <= to ? [from, to] : [to, from];
  const found = useMemo(() => {
    const [before, after] = [recorder.stateAt(low), recorder.stateAt(high)];
    return before === undefined || after === undefined ? [] : differences(before, after);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- as above
  }, [recorder, version, low, high]);
  return (
    <div className="comparison" tabIndex={0} role="region" aria-label={`What changed from ${low} to ${high}`}>
      <p className="faint">
        {found.length === 0 ? `Nothing differs between ${low} and ${high}.` : `${found.length}${found.length >= 500 ? " and more" : ""} ${found.length === 1 ? "difference" : "differences"} from ${low} to ${high}`}
      </p>
      <ul>
        {found.map(({ path, kind, before, after }) => (
          <li key={JSON.stringify(path)} className={kind}>
            <code className="path">{pathText(path)}</code> <span className="kind">{kind}</span>
            {grown(before, after) ?? (
              <>
                {before === undefined ? null : <del>{long(before)}</del>}
                {after === undefined ? null : <ins>{long(after)}</ins>}
              </>
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}

function grown(before: Json | undefined, after: Json | undefined): ReactNode | null {
  if (typeof before !== "string" || typeof after !== "string" || !after.startsWith(before) || before === "") return null;
  return (
    <>
      <span className="faint">…{before.slice(-40)}</span>
      <ins>{after.slice(before.length, before.length + 400)}</ins>
    </>
  );
}

const long = (value: Json | JsonObject): string =>
  typeof value === "object" && value !== null ? preview(JSON.stringify(value), 240).slice(1, -1).replaceAll('\\"', '"') : preview(value, 240);
