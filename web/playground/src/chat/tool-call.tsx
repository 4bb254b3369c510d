import type { ToolCallMessagePartProps } from "@assistant-ui/react";
import type { Json as JsonValue, JsonObject } from "@threadwire/client";
import { type Approval, type Decision, type ToolProgress, useApprovals } from "@threadwire/react";
import { type ReactNode, useId, useState } from "react";
import { Icon, type IconName } from "../ui/icons.js";
import { Json, Spinner } from "../ui/parts.js";
import { AnswerForm } from "./answer-form.js";

type Phase = "writing" | "working" | "asking" | "waiting" | "done" | "failed" | "stopped";

const PHASES: { readonly [phase in Phase]: { readonly text: string; readonly icon: IconName | null } } = {
  writing: { text: "being written", icon: null },
  working: { text: "at work", icon: null },
  asking: { text: "needs your approval", icon: "hand" },
  waiting: { text: "waits for an answer", icon: "hand" },
  done: { text: "done", icon: "check" },
  failed: { text: "failed", icon: "alert" },
  stopped: { text: "not executed", icon: "close" },
};

export function ToolCall(props: ToolCallMessagePartProps): ReactNode {
  const { toolName, args, argsText, result, isError, status, approval, interrupt, artifact, addResult } = props;
  const [isOpen, setOpen] = useState<boolean | null>(null);
  const panel = useId();
  const progress = (artifact as ToolProgress | undefined)?.threadwire;
  const phase: Phase =
    result !== undefined ? (isError ? "failed" : "done")
    : approval !== undefined && approval.approved === undefined ? "asking"
    : interrupt !== undefined ? "waiting"
    : approval !== undefined ? (approval.approved ? "working" : "stopped")
    : progress !== undefined ? "working"
    : status.type === "running" ? (isComplete(argsText) ? "working" : "writing")
    : "stopped";
  const { text, icon } = PHASES[phase];
  const needsSomebody = phase === "asking" || phase === "waiting";
  const open = isOpen ?? needsSomebody;
  return (
    <div className={`tool ${phase}`} role="group" aria-label={`Tool ${toolName}: ${text}`}>
      <button type="button" className="tool-head" aria-expanded={open} aria-controls={panel} onClick={() => setOpen(!open)}>
        <span className="tool-state">{icon === null ? <Spinner /> : <Icon name={icon} />}</span>
        <code>{toolName}</code>
        <span className="tool-brief">{brief(args as JsonObject)}</span>
        <span className="tool-phase">{text}</span>
        <Icon name={open ? "down" : "right"} />
      </button>
      <div id={panel} hidden={!open} className="tool-body">
        {phase === "asking" && approval !== undefined ? null : (
          <>
            <h2>Arguments</h2>
            <Json value={isComplete(argsText) ? args : argsText} />
          </>
        )}
        {progress?.output != null && result === undefined ? (
          <>
            <h2>Output so far</h2>
            <Json value={progress.output} />
          </>
        ) : null}
        {result !== undefined ? (
          <>
            <h2>{isError ? "Error" : "Result"}</h2>
            <Json value={result} />
          </>
        ) : null}
        {phase === "asking" && approval !== undefined ? <ApprovalForm id={approval.id} prompt={approval.prompt} args={args as JsonObject} /> : null}
        {phase === "waiting" ? (
          <>
            <p>The agent waits for this tool's result from you.</p>
            <AnswerForm schema={undefined} label={`Result of ${toolName}`} onAnswer={(value) => addResult(value as never)} />
          </>
        ) : null}
      </div>
    </div>
  );
}

/** Approve, change, refuse or answer what an agent wants to do. */
export function ApprovalForm({ id, prompt, args }: { readonly id: string; readonly prompt: string | undefined; readonly args: JsonObject }): ReactNode {
  const { approvals, decide } = useApprovals();
  const approval = approvals.find((each) => each.id === id);
  const [mode, setMode] = useState<"choose" | "edit" | "reject" | "respond">("choose");
  const [text, setText] = useState("");
  const [error, setError] = useState<string | null>(null);
  const field = useId();
  if (approval === undefined) return null;
  const allows = (decision: string): boolean => approval.decisions.includes(decision);
  const take = (decision: Decision): void => decide(id, decision);
  const submit = (): void => {
    if (mode === "reject") take(text.trim() === "" ? { type: "reject" } : { type: "reject", message: text.trim() });
    else if (mode === "respond") take({ type: "respond", message: text.trim() });
    else if (mode === "edit") {
      const edited = edit(approval, text);
      if (typeof edited === "string") setError(edited);
      else take(edited);
    }
  };
  return (
    <div className="approval">
      <p className="plain">{prompt ?? `May ${approval.name} be called with this?`}</p>
      {mode === "choose" ? (
        <>
          <Json value={args} />
          <div className="buttons">
            {allows("approve") ? (
              <button type="button" className="button primary" onClick={() => take({ type: "approve" })}>
                Approve
              </button>
            ) : null}
            {allows("edit") ? (
              <button type="button" className="button" onClick={() => { setText(JSON.stringify(args, null, 2)); setMode("edit"); }}>
                Change…
              </button>
            ) : null}
            {allows("respond") ? (
              <button type="button" className="button" onClick={() => { setText(""); setMode("respond"); }}>
                Answer instead…
              </button>
            ) : null}
            {allows("reject") ? (
              <button type="button" className="button danger" onClick={() => { setText(""); setMode("reject"); }}>
                Refuse…
              </button>
            ) : null}
          </div>
        </>
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            submit();
          }}
        >
          <label htmlFor={field}>{{ edit: "Arguments, as JSON", reject: "Why not? (may be empty)", respond: "Your answer" }[mode]}</label>
          <textarea id={field} autoFocus rows={mode === "edit" ? 6 : 2} className={mode === "edit" ? "code" : ""} value={text} aria-invalid={error !== null} onChange={(event) => { setText(event.target.value); setError(null); }} />
          {error === null ? null : <p className="field-error" role="alert">{error}</p>}
          <div className="buttons">
            <button type="submit" className={mode === "reject" ? "button danger" : "button primary"} disabled={mode === "respond" && text.trim() === ""}>
              {{ edit: "Approve as changed", reject: "Refuse", respond: "Answer" }[mode]}
            </button>
            <button type="button" className="button" onClick={() => setMode("choose")}>
              Back
            </button>
          </div>
        </form>
      )}
    </div>
  );
}

function edit(approval: Approval, text: string): Decision | string {
  let args: JsonValue;
  try {
    args = JSON.parse(text) as JsonValue;
  } catch {
    return "This is no JSON.";
  }
  if (typeof args !== "object" || args === null || Array.isArray(args)) return "Arguments are an object.";
  return { type: "edit", edited_action: { name: approval.name, args: args as JsonObject } };
}

function isComplete(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function brief(args: JsonObject): string {
  const parts = Object.values(args ?? {}).map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
  const text = parts.join(", ");
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
