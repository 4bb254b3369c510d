/** Content of messages, in the forms that LangChain and others write it, as parts. */

import { type Json, isObject } from "@threadwire/client";
import { type Part, arrayOf, dataUrl, objectOf, textOf } from "./converter.js";

/** The parts of a message's content: a string, or an array of blocks. */
export function contentParts(content: Json | undefined, role: "user" | "assistant"): Part[] {
  if (typeof content === "string") return content === "" ? [] : [{ type: "text", text: content }];
  return arrayOf(content).flatMap((block): Part[] => {
    if (typeof block === "string") return [{ type: "text", text: block }];
    return isObject(block) ? blockParts(block, role) : [];
  });
}

function blockParts(block: { readonly [key: string]: Json }, role: "user" | "assistant"): Part[] {
  const mimeType = textOf(block["mime_type"]) ?? textOf(block["mimeType"]) ?? textOf(block["media_type"]);
  const filename = textOf(block["filename"]) ?? textOf(objectOf(block["metadata"])?.["filename"]);
  const name = filename === undefined ? {} : { filename };
  const data = textOf(block["data"]) ?? textOf(block["base64"]) ?? textOf(block["url"]);
  switch (block["type"]) {
    case "text":
    case "output_text":
    case "text-plain": {
      const text = textOf(block["text"]);
      return text ? [{ type: "text", text }] : [];
    }
    case "reasoning":
    case "thinking": {
      const summary = arrayOf(block["summary"]).flatMap((each) => textOf(objectOf(each)?.["text"]) ?? []);
      const text = textOf(block["reasoning"]) ?? textOf(block["thinking"]) ?? textOf(block["text"]) ?? summary.join("\n\n");
      return text && role === "assistant" ? [{ type: "reasoning", text }] : [];
    }
    case "image_url": {
      const url = textOf(block["image_url"]) ?? textOf(objectOf(block["image_url"])?.["url"]);
      return url ? [{ type: "image", image: url, ...name }] : [];
    }
    case "image": {
      const image = textOf(block["image"]) ?? data;
      return image ? [{ type: "image", image: dataUrl(image, mimeType ?? "image/png"), ...name }] : [];
    }
    case "file":
    case "document": {
      const type = mimeType ?? "application/octet-stream";
      return data ? [{ type: "file", data, mimeType: type, ...name }] : [];
    }
    case "audio": {
      const audio = objectOf(block["audio"]);
      const bytes = textOf(audio?.["data"]) ?? data;
      const type = mimeType ?? `audio/${textOf(audio?.["format"]) ?? "wav"}`;
      return bytes ? [{ type: "file", data: bytes, mimeType: type, ...name }] : [];
    }
    case "data":
      return [{ type: "data", name: textOf(block["name"]) ?? "data", data: block["data"] ?? null }];
    default:
      // Calls stand in `tool_calls` too, and blocks of tomorrow are shown by nobody.
      return [];
  }
}
