/** The page: threads, chat and live state beside each other; one at a time where there is little room. */

import type { ErrorInfo } from "@threadwire/client";
import { ThreadwireProvider, fileAttachments, useThreadList } from "@threadwire/react";
import { type ReactNode, useCallback, useEffect, useMemo, useState } from "react";
import { Chat } from "./chat/chat.js";
import { BROWSER_TOOLS } from "./chat/browser-tools.js";
import { ConnectionBadge, ConnectionBanner, useLatency, useStatus } from "./connection-badge.js";
import { Inspector } from "./inspector/inspector.js";
import { RecordingProvider } from "./inspector/recording.js";
import { useIsThere, useThreadInAddress } from "./place.js";
import { useRemembered } from "./remembered.js";
import { connection, http } from "./server.js";
import { ThreadListPane } from "./thread-list.js";
import { Icon, type IconName, Mark } from "./ui/icons.js";
import { IconButton, ToastArea, useMedia, useToast } from "./ui/parts.js";
import { Splitter } from "./ui/splitter.js";

type Pane = "threads" | "chat" | "state";
type Theme = "auto" | "light" | "dark";

const PANES: readonly { readonly id: Pane; readonly name: string; readonly icon: IconName }[] = [
  { id: "threads", name: "Threads", icon: "threads" },
  { id: "chat", name: "Chat", icon: "chat" },
  { id: "state", name: "State", icon: "state" },
];
const NO_AGENTS: readonly string[] = [];

export function App(): ReactNode {
  return (
    <ToastArea>
      <Page />
    </ToastArea>
  );
}

function Page(): ReactNode {
  const [thread, go] = useThreadInAddress();
  const [agent, setAgent] = useState<string>();
  const [begun, setBegun] = useState<{ readonly id: string; readonly agent: string | undefined } | null>(null);
  const [pane, setPane] = useState<Pane>("chat");
  const [hasInspector, setInspector] = useRemembered<boolean>("inspector", true);
  const [hasList, setList] = useRemembered<boolean>("list", true);
  const [width, setWidth] = useRemembered<number>("inspector-width", 460);
  const [theme, setTheme] = useTheme();
  const say = useToast();
  const { state } = useStatus();
  const isOffline = state === "waiting" || state === "closed";
  const latency = useLatency();
  const isNarrow = useMedia("(max-width: 60rem)");
  const agents = connection.getWelcome()?.agents ?? NO_AGENTS;

  const open = useCallback(
    (id: string | null) => {
      setPane("chat");
      go(id);
    },
    [go],
  );
  const list = useThreadList({ http, thread, onThread: open, isPaused: isOffline });
  const { refresh } = list;

  // What was sent before a reload may be what makes the thread.
  const kept = useMemo(() => connection.session.unsettled.find(({ frame }) => frame.thread === thread)?.frame, [thread]);
  // A thread that is opened by its address has its agent already.
  const isThere = useIsThere(thread, begun?.id === thread || kept !== undefined);
  const own = thread === null ? agent : begun?.id === thread ? begun.agent : kept?.agent;
  const record = [...list.threads, ...list.archived].find((each) => each.id === thread);
  const shownAgent = record?.agent ?? own ?? (thread === null ? (agent ?? agents[0]) : undefined);

  const onThread = useCallback(
    (id: string, { text, sending }: { readonly text: string; readonly sending: { acknowledged(): Promise<void> } }) => {
      setBegun({ id, agent });
      go(id);
      sending
        .acknowledged()
        .then(() => (text === "" ? undefined : http.change(id, { title: titleOf(text) })))
        .catch(() => {}) // what was refused is said by `onError`; a thread without a title is one
        .finally(() => void refresh());
    },
    [agent, go, refresh],
  );
  const onError = useCallback((error: ErrorInfo) => say(error.field ? `${error.message} (${error.field})` : error.message), [say]);
  const attachments = useMemo(() => fileAttachments({ maxBytes: Math.floor(connection.limits.max_frame_bytes * 0.65) }), [state]);
  const adapters = useMemo(() => ({ threadList: list.adapter }), [list.adapter]);

  useEffect(() => {
    document.title = record?.title ? `${record.title} · Threadwire` : "Threadwire";
  }, [record?.title]);

  const shows = (each: Pane): boolean => (isNarrow ? pane === each : each === "chat" || (each === "state" ? hasInspector : hasList));
  const nextTheme: Theme = { auto: "light", light: "dark", dark: "auto" }[theme] as Theme;
  return (
    <ThreadwireProvider
      connection={connection}
      thread={isThere === true ? thread : null}
      isDisabled={isThere !== true}
      agent={own}
      onThread={onThread}
      onError={onError}
      attachments={attachments}
      adapters={adapters}
      tools={BROWSER_TOOLS}
    >
      <RecordingProvider>
      <div className={`page ${isNarrow ? "narrow" : "wide"}`}>
        <header className="top">
          {isNarrow ? null : (
            <IconButton icon="threads" label={hasList ? "Hide threads" : "Show threads"} aria-pressed={hasList} onClick={() => setList(!hasList)} />
          )}
          <a className="brand" href="#" onClick={(event) => { event.preventDefault(); open(null); }} aria-label="Threadwire: new thread">
            <Mark />
            <span>Threadwire</span>
          </a>
          {shownAgent === undefined ? null : <span className="agent-name">{shownAgent}</span>}
          <span className="space" />
          <ConnectionBadge latency={latency} />
          <IconButton icon={{ auto: "auto", light: "sun", dark: "moon" }[theme] as IconName} label={`Colours: ${theme}; change to ${nextTheme}`} onClick={() => setTheme(nextTheme)} />
          {isNarrow ? null : (
            <IconButton icon="state" label={hasInspector ? "Hide state" : "Show state"} aria-pressed={hasInspector} onClick={() => setInspector(!hasInspector)} />
          )}
        </header>
        <ConnectionBanner />
        <div className="panes">
          {shows("threads") ? (
            <ThreadListPane list={list} isOffline={isOffline} agents={agents} agent={agent} onAgent={(name) => { setAgent(name); open(null); }} onChosen={() => setPane("chat")} />
          ) : null}
          {/* The chat stays as it is: what is written in it, and where it is scrolled to, would be lost. */}
          <main className={shows("chat") ? "chat-pane" : "chat-pane away"} inert={!shows("chat")}>
            <Chat thread={thread} isThere={isThere} title={thread === null ? undefined : (record?.title ?? "Thread")} agent={shownAgent} agents={agents} onAgent={setAgent} onNew={() => open(null)} />
          </main>
          {shows("state") ? (
            <aside className="inspector-pane" aria-label="Live state" style={isNarrow ? undefined : { width }}>
              {isNarrow ? null : <Splitter width={width} onWidth={setWidth} />}
              <Inspector agent={shownAgent} latency={latency} />
            </aside>
          ) : null}
        </div>
        {isNarrow ? (
          <nav className="pane-choice" aria-label="Views">
            {PANES.map(({ id, name, icon }) => (
              <button key={id} type="button" aria-pressed={pane === id} onClick={() => setPane(id)}>
                <Icon name={icon} />
                {name}
              </button>
            ))}
          </nav>
        ) : null}
      </div>
      </RecordingProvider>
    </ThreadwireProvider>
  );
}

function titleOf(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length <= 60 ? line : `${line.slice(0, 57).trimEnd()}…`;
}

function useTheme(): readonly [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useRemembered<string>("theme", "auto");
  const known = theme === "light" || theme === "dark" ? theme : "auto";
  useEffect(() => {
    if (known === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = known;
  }, [known]);
  return [known, setTheme];
}
