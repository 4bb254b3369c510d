import { ActionBarPrimitive, AuiIf, BranchPickerPrimitive, ComposerPrimitive, MessagePrimitive, useAui, useAuiState } from "@assistant-ui/react";
import type { CommandView } from "@threadwire/client";
import { useCanBranch, useDismissCommand, useSendCommand } from "@threadwire/react";
import { type ReactNode, useState } from "react";
import { Icon } from "../ui/icons.js";
import { CopyButton, InlinePicture, Json, Spinner } from "../ui/parts.js";
import { Markdown } from "./markdown.js";
import { isSafeLink } from "./markdown-blocks.js";
import { ToolCall } from "./tool-call.js";

function PlainText({ text }: { readonly text: string }): ReactNode {
  return <p className="plain" dir="auto">{text}</p>;
}

function Picture({ image, filename }: { readonly image: string; readonly filename?: string | undefined }): ReactNode {
  // The page's policy lets no picture in from elsewhere.
  if (!/^(?:data:image\/|blob:)/.test(image)) {
    return (
      <a className="file" href={isSafeLink(image) ? image : undefined} target="_blank" rel="noopener noreferrer">
        <Icon name="file" /> {filename ?? image}
      </a>
    );
  }
  return <InlinePicture src={image} alt={filename ?? "Attached picture"} />;
}

function FilePart({ data, mimeType, filename }: { readonly data: string; readonly mimeType: string; readonly filename?: string | undefined }): ReactNode {
  const isLink = /^https?:/.test(data);
  const href = isLink ? data : data.startsWith("data:") ? data : `data:${mimeType};base64,${data}`;
  const name = filename ?? "file";
  return (
    <a className="file" href={href} {...(isLink ? { target: "_blank", rel: "noopener noreferrer" } : { download: name })}>
      <Icon name="file" /> {name} <span className="faint">{mimeType}</span>
    </a>
  );
}

function Reasoning({ text, status }: { readonly text: string; readonly status: { readonly type: string } }): ReactNode {
  return (
    <details className="reasoning" open={status.type === "running"}>
      <summary>Reasoning</summary>
      <p className="plain">{text}</p>
    </details>
  );
}

function DataPart({ name, data }: { readonly name: string; readonly data: unknown }): ReactNode {
  return (
    <details className="reasoning">
      <summary>{name}</summary>
      <Json value={data} />
    </details>
  );
}

const USER_PARTS = { Text: PlainText, Image: Picture, File: FilePart, data: { Fallback: DataPart } };
const ASSISTANT_PARTS = { Text: Markdown, Image: Picture, File: FilePart, Reasoning, data: { Fallback: DataPart }, tools: { Fallback: ToolCall } };

export function UserMessage(): ReactNode {
  const sending = useAuiState((state) => state.message.metadata.custom["sending"]) as CommandView | undefined;
  const canBranch = useCanBranch();
  const refused = sending?.status === "rejected" || sending?.status === "cancelled";
  return (
    <MessagePrimitive.Root className={`message user ${sending === undefined ? "" : refused ? "refused" : "sending"}`} aria-label="You">
      <div className="bubble">
        <MessagePrimitive.Parts components={USER_PARTS} />
      </div>
      {sending === undefined ? (
        <div className="below">
          <Branches />
          <ActionBarPrimitive.Root className="actions">
            <CopyMessage />
            {canBranch ? (
              <ActionBarPrimitive.Edit className="icon-button" aria-label="Edit" title="Edit">
                <Icon name="edit" />
              </ActionBarPrimitive.Edit>
            ) : null}
          </ActionBarPrimitive.Root>
        </div>
      ) : (
        <Sending sending={sending} isRefused={refused} />
      )}
    </MessagePrimitive.Root>
  );
}

/** A message that isn't in the state: it is on its way, waits its turn, or was refused. */
function Sending({ sending, isRefused }: { readonly sending: CommandView; readonly isRefused: boolean }): ReactNode {
  const aui = useAui();
  const send = useSendCommand();
  const dismiss = useDismissCommand();
  if (!isRefused) {
    const text = sending.status === null ? "Sending…" : sending.status === "queued" ? "Waits for its turn" : "Begins…";
    return (
      <p className="delivery" role="status">
        {sending.status === null ? <Spinner /> : null} {text}
      </p>
    );
  }
  const message = (sending.command["message"] ?? {}) as { readonly parts?: readonly { readonly text?: string }[] };
  const text = (message.parts ?? []).map((part) => part.text ?? "").join("\n").trim();
  return (
    <div className="delivery refused" role="alert">
      <span>
        {sending.status === "cancelled" ? "Stopped before its turn" : `Not sent: ${sending.error?.message ?? "refused"}`}
      </span>
      <button
        type="button"
        className="link"
        onClick={() => {
          send(sending.command as never);
          dismiss(sending.id);
        }}
      >
        Send again
      </button>
      <button
        type="button"
        className="link"
        onClick={() => {
          const composer = aui.thread().composer();
          const before = composer.getState().text;
          composer.setText(before === "" ? text : `${before}\n${text}`);
          dismiss(sending.id);
        }}
      >
        Edit
      </button>
      <button type="button" className="link" onClick={() => dismiss(sending.id)}>
        Discard
      </button>
    </div>
  );
}

export function AssistantMessage(): ReactNode {
  const canBranch = useCanBranch();
  const status = useAuiState((state) => state.message.status);
  const isEmpty = useAuiState((state) => state.message.content.length === 0);
  const isRunning = status?.type === "running";
  return (
    <MessagePrimitive.Root className="message assistant" aria-label="Agent">
      <div className="body">
        <MessagePrimitive.Parts components={ASSISTANT_PARTS} />
        {isRunning && isEmpty ? <Thinking /> : null}
      </div>
      {status?.type === "incomplete" ? (
        <p className="cut">{status.reason === "cancelled" ? "Stopped here." : "Cut short here."}</p>
      ) : null}
      <div className="below">
        <Branches />
        <ActionBarPrimitive.Root className="actions" hideWhenRunning>
          <CopyMessage />
          {canBranch ? (
            <ActionBarPrimitive.Reload className="icon-button" aria-label="Answer again" title="Answer again">
              <Icon name="reload" />
            </ActionBarPrimitive.Reload>
          ) : null}
        </ActionBarPrimitive.Root>
      </div>
    </MessagePrimitive.Root>
  );
}

function CopyMessage(): ReactNode {
  const aui = useAui();
  return <CopyButton label="Copy" text={() => aui.message().getCopyText()} />;
}

function Thinking(): ReactNode {
  return (
    <span className="thinking" aria-label="The agent is working">
      <i />
      <i />
      <i />
    </span>
  );
}

function Branches(): ReactNode {
  return (
    <BranchPickerPrimitive.Root className="branches" hideWhenSingleBranch aria-label="Branches">
      <BranchPickerPrimitive.Previous className="icon-button" aria-label="Branch before" title="Branch before">
        <Icon name="left" />
      </BranchPickerPrimitive.Previous>
      <span>
        <BranchPickerPrimitive.Number /> / <BranchPickerPrimitive.Count />
      </span>
      <BranchPickerPrimitive.Next className="icon-button" aria-label="Next branch" title="Next branch">
        <Icon name="right" />
      </BranchPickerPrimitive.Next>
    </BranchPickerPrimitive.Root>
  );
}

export function SystemMessage(): ReactNode {
  const [isOpen, setOpen] = useState(false);
  return (
    <MessagePrimitive.Root className="message system" aria-label="Instructions">
      <button type="button" className="link" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <Icon name={isOpen ? "down" : "right"} /> Instructions
      </button>
      {isOpen ? <MessagePrimitive.Parts components={USER_PARTS} /> : null}
    </MessagePrimitive.Root>
  );
}

export function EditComposer(): ReactNode {
  return (
    <ComposerPrimitive.Root className="message user editing">
      <ComposerPrimitive.Input className="composer-input" dir="auto" aria-label="Edit the message" autoFocus maxRows={12} />
      <div className="below">
        <AuiIf condition={(state) => state.thread.isRunning}>
          <span className="faint">Waits until the run has ended.</span>
        </AuiIf>
        <ComposerPrimitive.Cancel className="button">Cancel</ComposerPrimitive.Cancel>
        <ComposerPrimitive.Send className="button primary">Send</ComposerPrimitive.Send>
      </div>
    </ComposerPrimitive.Root>
  );
}

