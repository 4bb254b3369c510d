/** The live state of the thread, and how it came to be. */

import { type ReactNode, useEffect, useMemo, useState } from "react";
import { useRemembered } from "../remembered.js";
import { Tabs } from "../ui/parts.js";
import { Operations } from "./operations.js";
import type { Recorder } from "./recorder.js";
import { useRecorder, useVersion } from "./recording.js";
import { Sender } from "./sender.js";
import { StatePanel } from "./state-panel.js";
import { Timeline } from "./timeline.js";

type Tab = "state" | "operations" | "timeline" | "send";
const PANEL = "inspector-panel";

export function Inspector({ agent, latency }: { readonly agent: string | undefined; readonly latency: number | null }): ReactNode {
  const recorder = useRecorder();
  const [tab, setTab] = useRemembered<string>("inspector-tab", "state");
  const [seq, setSeq] = useState<number | null>(null);
  useEffect(() => setSeq(null), [recorder]);
  if (recorder !== null) recorder.latency_ms = latency;

  const selected = (["state", "operations", "timeline", "send"] as const).find((each) => each === tab) ?? "state";
  const version = useVersion(recorder);
  const running = useMemo(() => recorder?.runs.filter((run) => run.ended_ms === null).length ?? 0, [recorder, version]);
  return (
    <div className="inspector">
      <Tabs<Tab>
        label="Views of the state"
        panel={PANEL}
        selected={selected}
        onSelect={setTab}
        tabs={[
          { id: "state", name: "State" },
          { id: "operations", name: "Operations" },
          { id: "timeline", name: "Timeline", badge: running },
          { id: "send", name: "Send" },
        ]}
      />
      <div className="inspector-panel" id={PANEL} role="tabpanel" aria-labelledby={`${PANEL}-tab-${selected}`}>
        {selected === "send" ? (
          <Sender key={agent} agent={agent} />
        ) : recorder === null ? (
          <div className="empty">
            <p>There is no state yet: it begins with the thread's first message.</p>
          </div>
        ) : selected === "state" ? (
          <StatePanel recorder={recorder} version={version} seq={seq} onSeq={setSeq} />
        ) : selected === "operations" ? (
          <Operations
            recorder={recorder}
            version={version}
            onSeq={(next) => {
              setSeq(next);
              setTab("state");
            }}
          />
        ) : (
          <Timeline recorder={recorder} version={version} />
        )}
      </div>
      <CounterStrip recorder={recorder} version={version} />
    </div>
  );
}

function CounterStrip({ recorder, version }: { readonly recorder: Recorder | null; readonly version: number }): ReactNode {
  const [, setTick] = useState(0);
  const counters = useMemo(() => recorder?.counters, [recorder, version]);
  const isBusy = (counters?.updatesRate ?? 0) > 0 || (counters?.bytesRate ?? 0) > 0;
  useEffect(() => {
    // Rates go down by themselves.
    if (!isBusy) return;
    const timer = setInterval(() => setTick((tick) => tick + 1), 500);
    return () => clearInterval(timer);
  }, [isBusy]);
  if (recorder === null) return null;
  const now = recorder.counters;
  const cells: readonly (readonly [string, string, string])[] = [
    ["in", bytes(now.bytesIn), `${now.messagesIn} messages from the server`],
    ["out", bytes(now.bytesOut), `${now.messagesOut} messages to the server`],
    ["rate", `${bytes(now.bytesRate)}/s`, "bytes from and to the server"],
    ["updates", `${now.updates}`, `${now.operations} operations, ${now.updatesRate.toFixed(1)} updates a second`],
    ["latency", now.latency_ms === null ? "–" : `${Math.max(1, Math.round(now.latency_ms))} ms`, "to the server and back"],
  ];
  return (
    <dl className="counters">
      {cells.map(([name, value, title]) => (
        <div key={name} title={title}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function bytes(count: number): string {
  if (count < 1000) return `${Math.round(count)} B`;
  return count < 1e6 ? `${(count / 1000).toFixed(count < 10_000 ? 1 : 0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
