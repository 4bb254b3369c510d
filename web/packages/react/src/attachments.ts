/** Attachments that travel inside the message: images, texts and other files, within what one frame may hold. */

import type { AttachmentAdapter, CompleteAttachment, PendingAttachment, ThreadUserMessagePart } from "@assistant-ui/react";

/** A frame may have 1 MiB by default, and base64 makes a third more of it. */
const MAX_BYTES = 700 * 1024;

export interface AttachmentOptions {
  /** As in `<input accept>`; everything, by default. */
  readonly accept?: string;
  /** What a file may have, in bytes. */
  readonly maxBytes?: number;
}

export function fileAttachments({ accept = "*", maxBytes = MAX_BYTES }: AttachmentOptions = {}): AttachmentAdapter {
  let count = 0;
  return {
    accept,
    async add({ file }): Promise<PendingAttachment> {
      const fits = file.size <= maxBytes;
      return {
        id: `attachment-${Date.now()}-${++count}`,
        type: file.type.startsWith("image/") ? "image" : isText(file) ? "document" : "file",
        name: file.name,
        contentType: file.type,
        file,
        status: fits
          ? { type: "requires-action", reason: "composer-send" }
          : { type: "incomplete", reason: "error", message: `larger than ${Math.round(maxBytes / 1024)} KiB` },
      };
    },
    async remove() {},
    async send(attachment): Promise<CompleteAttachment> {
      if (attachment.file.size > maxBytes) throw new Error(`${attachment.name} is larger than ${Math.round(maxBytes / 1024)} KiB`);
      return { ...attachment, status: { type: "complete" }, content: [await partOf(attachment.file)] };
    },
  };
}

const isText = (file: File): boolean => /^text\/|[/+](?:json|xml|yaml|javascript)$/.test(file.type);

async function partOf(file: File): Promise<ThreadUserMessagePart> {
  if (isText(file)) return { type: "text", text: `<attachment name=${JSON.stringify(file.name)}>\n${await file.text()}\n</attachment>` };
  const url = await dataUrl(file);
  if (file.type.startsWith("image/")) return { type: "image", image: url, filename: file.name };
  return {
    type: "file",
    data: url.slice(url.indexOf(",") + 1),
    mimeType: file.type || "application/octet-stream",
    filename: file.name,
  };
}

function dataUrl(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error ?? new Error(`${file.name} can't be read`));
    reader.readAsDataURL(file);
  });
}
