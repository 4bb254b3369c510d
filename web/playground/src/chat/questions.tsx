/** What a run waits on and no message shows: questions, calls for clients, breakpoints. */

import { type Interrupt, useApprovals, useInterrupts, useLooseCalls, useRun, useSendCommand, useThreadState } from "@threadwire/react";
import type { ReactNode } from "react";
import { Icon } from "../ui/icons.js";
import { Json } from "../ui/parts.js";
import { AnswerForm } from "./answer-form.js";
import { ApprovalForm } from "./tool-call.js";

export function Questions(): ReactNode {
  const run = useRun();
  const { interrupts, answer } = useInterrupts();
  const { approvals, loose } = useApprovals();
  const calls = useLooseCalls();
  const send = useSendCommand();
  const plain = interrupts.filter((each) => !each.answered && !approvals.some((approval) => approval.interrupt.id === each.id));
  const hasCalls = useThreadState((state: { readonly threadwire?: { readonly tool_calls?: object } } | null) => state?.threadwire?.tool_calls !== undefined);
  const isBreakpoint = run?.status === "waiting" && interrupts.length === 0 && !hasCalls;
  return (
    <>
      {loose.map((approval) => (
        <div key={approval.id} className="question" role="group" aria-label="The agent asks for approval">
          <h2>
            <Icon name="hand" /> <code>{approval.name}</code> needs your approval
          </h2>
          <ApprovalForm id={approval.id} prompt={approval.description} args={approval.args} />
        </div>
      ))}
      {plain.map((interrupt) => (
        <div key={interrupt.id} className="question" role="group" aria-label="The agent asks">
          <h2>
            <Icon name="hand" /> The agent asks
          </h2>
          <Question interrupt={interrupt} />
          <AnswerForm schema={interrupt.schema} label="Your answer" onAnswer={(value) => void answer(interrupt.id, value)} />
        </div>
      ))}
      {calls.map((call) => (
        <div key={call.id} className="question" role="group" aria-label={`The agent calls ${call.name}`}>
          <h2>
            <Icon name="hand" /> <code>{call.name}</code> waits for its result
          </h2>
          <Json value={call.args} />
          <AnswerForm
            schema={undefined}
            label={`Result of ${call.name}`}
            onAnswer={(result) => void send({ type: "add-tool-result", toolCallId: call.id, toolName: call.name, result })}
          />
        </div>
      ))}
      {isBreakpoint ? <Breakpoint onContinue={() => void send({ type: "resume", answers: {} })} /> : null}
    </>
  );
}

function Question({ interrupt }: { readonly interrupt: Interrupt }): ReactNode {
  return typeof interrupt.value === "string" ? <p className="plain">{interrupt.value}</p> : <Json value={interrupt.value} />;
}

function Breakpoint({ onContinue }: { readonly onContinue: () => void }): ReactNode {
  return (
    <div className="question" role="group" aria-label="Breakpoint">
      <p>The run has stopped at a breakpoint.</p>
      <button type="button" className="button primary" onClick={onContinue}>
        Continue
      </button>
    </div>
  );
}
