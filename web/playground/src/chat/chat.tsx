import { AuiIf, ThreadPrimitive, useAuiEvent, useAuiState } from "@assistant-ui/react";
import { useEarlierMessages, useRun, useThreadSnapshot } from "@threadwire/react";
import type { ReactNode } from "react";
import { Icon } from "../ui/icons.js";
import { Composer } from "./composer.js";
import { AssistantMessage, EditComposer, SystemMessage, UserMessage } from "./messages.js";
import { Questions } from "./questions.js";
import { useScroller } from "./scroller.js";
import { Welcome } from "./welcome.js";

export interface ChatProps {
  readonly thread: string | null;
  /** null: that isn't known yet. */
  readonly isThere: boolean | null;
  /** Undefined: the welcome has its own heading. */
  readonly title: string | undefined;
  readonly agent: string | undefined;
  readonly agents: readonly string[];
  readonly onAgent: (agent: string) => void;
  readonly onNew: () => void;
}

const NOT_THERE = { code: "not-found", message: "It was deleted, or its address isn't right." };
const COMPONENTS = { UserMessage, AssistantMessage, SystemMessage, EditComposer };

export function Chat({ thread, isThere, title, agent, agents, onAgent, onNew }: ChatProps): ReactNode {
  const failed = useThreadSnapshot((snapshot) => snapshot?.failure ?? null);
  const failure = isThere === false ? NOT_THERE : failed;
  const { viewport, content, isAtEnd, toEnd, addAbove } = useScroller(thread);
  useAuiEvent({ scope: "*", event: "composer.send" }, toEnd);
  return (
    <ThreadPrimitive.Root className="chat">
      {title === undefined ? null : <h1 className="sr-only">{title}</h1>}
      <div ref={viewport} className="viewport" tabIndex={0} role="log" aria-label="Conversation" aria-live="off">
        <div ref={content} className="column">
          {failure !== null ? (
            <div className="empty" role="alert">
              <h2>{failure.code === "not-found" ? "This thread is gone" : "This thread can't be shown"}</h2>
              <p>{failure.message}</p>
              <button type="button" className="button primary" onClick={onNew}>
                Begin a new one
              </button>
            </div>
          ) : (
            <>
              <AuiIf condition={(state) => state.thread.isLoading || isThere === null}>
                <div className="loading" role="status" aria-label="Loading the thread">
                  <i /> <i /> <i />
                </div>
              </AuiIf>
              <AuiIf condition={(state) => state.thread.isEmpty && !state.thread.isLoading && isThere !== null}>
                <Welcome agent={agent} agents={agents} onAgent={thread === null ? onAgent : undefined} />
              </AuiIf>
              <Earlier onShow={addAbove} />
              <ThreadPrimitive.Messages components={COMPONENTS} />
              <Questions />
              <Outcome />
            </>
          )}
        </div>
      </div>
      <div className="dock">
        {isAtEnd ? null : (
          <button type="button" className="to-end" aria-label="To the end of the conversation" title="To the end" onClick={toEnd}>
            <Icon name="down" />
          </button>
        )}
        {failure === null ? <Composer key={thread ?? ""} thread={thread} /> : null}
      </div>
      <Announcer />
    </ThreadPrimitive.Root>
  );
}

function Earlier({ onShow }: { readonly onShow: () => void }): ReactNode {
  const { hidden, showEarlier } = useEarlierMessages();
  if (hidden === 0) return null;
  const show = (): void => {
    onShow();
    showEarlier();
  };
  return (
    <button type="button" className="link earlier" onClick={show}>
      <Icon name="more" /> Show earlier messages ({hidden})
    </button>
  );
}

/** How the last run ended, where that wasn't in order. */
function Outcome(): ReactNode {
  const run = useRun();
  if (run?.status === "failed") {
    return (
      <div className="outcome error" role="alert">
        <Icon name="alert" />
        <p>
          <strong>The run failed.</strong> {run.error?.message ?? ""} {run.error ? <code>{run.error.code}</code> : null}
        </p>
      </div>
    );
  }
  return run?.status === "cancelled" ? <p className="outcome stopped">Stopped.</p> : null;
}

/** Says to screen readers when an answer begins and is complete; reading out each token would be noise. */
function Announcer(): ReactNode {
  const isRunning = useAuiState((state) => state.thread.isRunning);
  const run = useRun();
  const text = isRunning ? "The agent is working." : run === null ? "" : { completed: "The answer is complete.", waiting: "The agent waits for you.", failed: "", cancelled: "Stopped.", queued: "", running: "" }[run.status];
  return (
    <div className="sr-only" role="status" aria-live="polite">
      {text}
    </div>
  );
}
