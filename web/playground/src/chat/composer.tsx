import { AttachmentPrimitive, AuiIf, ComposerPrimitive, useAui, useAuiEvent, useAuiState } from "@assistant-ui/react";
import { NEW_THREAD } from "@threadwire/react";
import { type ReactNode, useEffect, useState } from "react";
import { Icon } from "../ui/icons.js";

const draftKey = (thread: string | null): string => `threadwire.draft.${thread ?? ""}`;

function savedDraft(thread: string | null): string {
  try {
    return sessionStorage.getItem(draftKey(thread)) ?? "";
  } catch {
    return "";
  }
}

function saveDraft(thread: string | null, text: string): void {
  try {
    if (text === "") sessionStorage.removeItem(draftKey(thread));
    else sessionStorage.setItem(draftKey(thread), text);
  } catch {
    // Then it lives as long as the page.
  }
}

/** What is being written is kept for each thread with every key, through switching and reloads. */
function useDraft(thread: string | null): void {
  const aui = useAui();
  const text = useAuiState((state) => state.composer.text);
  // Until the runtime has followed a switch, its composer is that of the thread before.
  const isShown = useAuiState((state) => state.threads.mainThreadId === (thread ?? NEW_THREAD));
  const [isRestored, setRestored] = useState(false);
  useEffect(() => {
    if (!isShown) return;
    const saved = savedDraft(thread);
    if (saved !== "" && aui.thread().composer().getState().text === "") aui.thread().composer().setText(saved);
    setRestored(true);
  }, [aui, thread, isShown]);
  useEffect(() => {
    if (isRestored && isShown) saveDraft(thread, text);
  }, [thread, text, isRestored, isShown]);
  // The first message of a new thread takes this composer away before it is empty.
  useAuiEvent("composer.send", () => saveDraft(thread, ""));
}

export function Composer({ thread }: { readonly thread: string | null }): ReactNode {
  useDraft(thread);
  const attached = useAuiState((state) => state.composer.attachments);
  const broken = attached.find((each) => each.status.type === "incomplete");
  return (
    <ComposerPrimitive.Root className="composer">
      <ComposerPrimitive.AttachmentDropzone className="dropzone">
        {attached.length > 0 ? (
          <div className="attachments">
            <ComposerPrimitive.Attachments>{() => <Attached />}</ComposerPrimitive.Attachments>
          </div>
        ) : null}
        {broken?.status.type === "incomplete" ? (
          <p className="composer-note" role="alert">
            {broken.name}: {broken.status.message ?? "can't be attached"}
          </p>
        ) : null}
        <div className="composer-row">
          <ComposerPrimitive.AddAttachment className="icon-button" aria-label="Attach a file" title="Attach a file" multiple>
            <Icon name="attach" />
          </ComposerPrimitive.AddAttachment>
          <ComposerPrimitive.Input className="composer-input" dir="auto" placeholder="Write a message…" aria-label="Message" autoFocus rows={1} maxRows={10} cancelOnEscape={false} />
          <AuiIf condition={(state) => state.thread.isRunning}>
            <ComposerPrimitive.Cancel className="icon-button stop" aria-label="Stop" title="Stop">
              <Icon name="stop" />
            </ComposerPrimitive.Cancel>
          </AuiIf>
          <ComposerPrimitive.Send className="icon-button send" aria-label="Send" title="Send">
            <Icon name="send" />
          </ComposerPrimitive.Send>
        </div>
      </ComposerPrimitive.AttachmentDropzone>
    </ComposerPrimitive.Root>
  );
}

function Attached(): ReactNode {
  const name = useAuiState((state) => state.attachment.name);
  const isBroken = useAuiState((state) => state.attachment.status.type === "incomplete");
  return (
    <AttachmentPrimitive.Root className={`attached ${isBroken ? "broken" : ""}`}>
      <Icon name="file" />
      <AttachmentPrimitive.Name />
      <AttachmentPrimitive.Remove className="icon-button" aria-label={`Remove ${name}`} title="Remove">
        <Icon name="close" />
      </AttachmentPrimitive.Remove>
    </AttachmentPrimitive.Root>
  );
}
