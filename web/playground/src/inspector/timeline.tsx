/** The runs of the thread and the commands that were sent from this window, with their times. */

import type { ReactNode } from "react";
import { useNow } from "../ui/parts.js";
import type { CommandEntry, Recorder, RunEntry } from "./recorder.js";

export function Timeline({ recorder }: { readonly recorder: Recorder; readonly version: number }): ReactNode {
  const { runs, commands } = recorder;
  const isOpen = runs.some((run) => run.ended_ms === null) || commands.some((command) => command.settled_ms === null);
  const now = useNow(200, isOpen);
  if (runs.length === 0 && commands.length === 0) {
    return (
      <div className="empty">
        <p>No run and no command yet.</p>
      </div>
    );
  }
  const longest = Math.max(1, ...runs.map((run) => (run.ended_ms ?? now) - run.began_ms));
  return (
    <div className="timeline" tabIndex={0} role="region" aria-label="Runs and commands">
      <h2>Runs</h2>
      {runs.length === 0 ? <p className="faint">None yet.</p> : null}
      <ol className="runs">
        {runs.toReversed().map((run) => (
          <Run key={run.id} run={run} now={now} longest={longest} />
        ))}
      </ol>
      <h2>Commands from this window</h2>
      {commands.length === 0 ? <p className="faint">None yet.</p> : null}
      <ol className="commands">
        {commands.toReversed().map((command) => (
          <Command key={command.id} command={command} now={now} />
        ))}
      </ol>
    </div>
  );
}

function Run({ run, now, longest }: { readonly run: RunEntry; readonly now: number; readonly longest: number }): ReactNode {
  const length = (run.ended_ms ?? now) - run.began_ms;
  const isUnknown = run.partial && run.ended_ms !== null;
  return (
    <li className={`run ${run.status}`}>
      <span className="status">{run.status}</span>
      <code className="id" title={run.id}>{run.id.slice(0, 8)}</code>
      <span className="bar" aria-hidden="true">
        <i style={{ width: `${isUnknown ? 0 : Math.max(2, (100 * length) / longest)}%` }} />
      </span>
      <span className="time">{isUnknown ? "before" : `${run.partial ? "> " : ""}${duration(length)}`}</span>
      {run.error === null ? null : <p className="field-error">{run.error.code}: {run.error.message}</p>}
    </li>
  );
}

function Command({ command, now }: { readonly command: CommandEntry; readonly now: number }): ReactNode {
  const { sent_ms, acknowledged_ms, settled_ms } = command;
  return (
    <li className={`command ${command.status ?? "sent"}`}>
      <span className="status">{command.status ?? "sent"}</span>
      <code>{command.type}</code>
      <span className="time" title="until the server had it for good">
        {acknowledged_ms === null ? `${duration(now - sent_ms)}…` : `ack ${duration(acknowledged_ms - sent_ms)}`}
      </span>
      <span className="time" title="until its effect was in the state">
        {settled_ms === null ? "" : `${command.status} ${duration(settled_ms - sent_ms)}`}
        {command.seq === null ? "" : ` @${command.seq}`}
      </span>
      {command.error === null ? null : (
        <p className="field-error">
          {command.error.code}: {command.error.message} {command.error.field ? <code>{command.error.field}</code> : null}
        </p>
      )}
    </li>
  );
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
