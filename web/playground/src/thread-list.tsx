import { ThreadListItemPrimitive, ThreadListPrimitive, useAui, useAuiState } from "@assistant-ui/react";
import type { ThreadList } from "@threadwire/react";
import { type ReactNode, useRef, useState } from "react";
import { Icon } from "./ui/icons.js";
import { IconButton } from "./ui/parts.js";

export interface ThreadListPaneProps {
  readonly list: ThreadList;
  /** That is said elsewhere: the list needn't complain too. */
  readonly isOffline: boolean;
  readonly agents: readonly string[];
  readonly agent: string | undefined;
  readonly onAgent: (agent: string) => void;
  readonly onChosen: () => void;
}

export function ThreadListPane({ list, isOffline, agents, agent, onAgent, onChosen }: ThreadListPaneProps): ReactNode {
  const [showArchived, setShowArchived] = useState(false);
  return (
    <nav className="threads" aria-label="Threads">
      <ThreadListPrimitive.Root className="thread-list">
        <div className="new-thread">
          <ThreadListPrimitive.New className="button primary" onClick={onChosen}>
            <Icon name="plus" /> New thread
          </ThreadListPrimitive.New>
          {agents.length > 1 ? (
            <label className="agent-choice">
              <span>with</span>
              <select value={agent ?? agents[0]} onChange={(event) => onAgent(event.target.value)} aria-label="Agent of new threads">
                {agents.map((name) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            </label>
          ) : null}
        </div>
        {list.isLoading ? (
          <div className="skeletons" aria-label="Loading threads" role="status">
            <i /> <i /> <i />
          </div>
        ) : null}
        {list.error !== null && !isOffline ? (
          <p className="list-note" role="status">
            The list can't be read now: {list.error.message}{" "}
            <button type="button" className="link" onClick={() => void list.refresh()}>
              Try again
            </button>
          </p>
        ) : null}
        {!list.isLoading && list.error === null && list.threads.length === 0 ? (
          <p className="list-note">No threads yet. Your first message begins one.</p>
        ) : null}
        <div className="items" onClick={onChosen}>
          <ThreadListPrimitive.Items>{() => <Item rename={list.rename} />}</ThreadListPrimitive.Items>
        </div>
        {list.hasMore ? (
          <button type="button" className="link" onClick={list.loadMore}>
            Show more
          </button>
        ) : null}
        {list.archived.length > 0 ? (
          <>
            <button type="button" className="link archived" aria-expanded={showArchived} onClick={() => setShowArchived(!showArchived)}>
              <Icon name={showArchived ? "down" : "right"} /> Archived ({list.archived.length})
            </button>
            {showArchived ? (
              <div className="items" onClick={onChosen}>
                <ThreadListPrimitive.Items archived>{() => <Item rename={list.rename} />}</ThreadListPrimitive.Items>
              </div>
            ) : null}
          </>
        ) : null}
      </ThreadListPrimitive.Root>
    </nav>
  );
}

function Item({ rename }: { readonly rename: ThreadList["rename"] }): ReactNode {
  const { id, title, status, custom } = useAuiState((state) => state.threadListItem);
  const aui = useAui();
  const [draft, setDraft] = useState<string | null>(null);
  const [sure, setSure] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const name = title || "Untitled";
  const about = custom as { agent?: string; updated_at?: number } | undefined;
  if (draft !== null) {
    const done = (keep: boolean): void => {
      if (keep && draft.trim() !== "" && draft.trim() !== title) void rename(id, draft.trim());
      setDraft(null);
    };
    return (
      <form
        className="item renaming"
        onClick={(event) => event.stopPropagation()}
        onSubmit={(event) => {
          event.preventDefault();
          done(true);
        }}
      >
        <input
          ref={field}
          autoFocus
          value={draft}
          maxLength={500}
          aria-label="Title of the thread"
          onChange={(event) => setDraft(event.target.value)}
          onBlur={() => done(true)}
          onKeyDown={(event) => {
            if (event.key === "Escape") done(false);
          }}
        />
      </form>
    );
  }
  const stop = (event: React.MouseEvent): void => event.stopPropagation();
  return (
    <ThreadListItemPrimitive.Root className="item">
      <ThreadListItemPrimitive.Trigger className="trigger" onDoubleClick={() => setDraft(title ?? "")}>
        <span className="title" dir="auto">{name}</span>
        <span className="about">
          {about?.agent}
          {about?.updated_at === undefined ? null : <time dateTime={new Date(about.updated_at * 1000).toISOString()}> · {ago(about.updated_at)}</time>}
        </span>
      </ThreadListItemPrimitive.Trigger>
      <span className="tools" onClick={stop}>
        {sure ? (
          <>
            <button type="button" className="danger small" autoFocus onClick={() => void aui.threadListItem().delete()} onBlur={() => setSure(false)}>
              Delete
            </button>
          </>
        ) : (
          <>
            <IconButton icon="edit" label={`Rename ${name}`} onClick={() => setDraft(title ?? "")} />
            {status === "archived" ? (
              <IconButton icon="restore" label={`Restore ${name}`} onClick={() => void aui.threadListItem().unarchive()} />
            ) : (
              <IconButton icon="archive" label={`Archive ${name}`} onClick={() => void aui.threadListItem().archive()} />
            )}
            <IconButton icon="trash" label={`Delete ${name}`} onClick={() => setSure(true)} />
          </>
        )}
      </span>
    </ThreadListItemPrimitive.Root>
  );
}

function ago(time_s: number): string {
  const seconds = Math.max(0, Date.now() / 1000 - time_s);
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return new Date(time_s * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" });
}

