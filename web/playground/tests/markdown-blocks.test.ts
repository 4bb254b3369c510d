import { lexer } from "marked";
import { expect, test } from "vitest";
import { BlockReader, isSafeLink, unescapeText } from "../src/chat/markdown-blocks.js";

const TEXT = [
  "# Title", "", "A paragraph with *em* and", "a second line.", "", "* one", "* two", "  * inner", "", "* three", "", "```js", "const a = `1`;", "", "b", "```",
  "", "| a | b |", "|---|---|", "| 1 | 2 |", "", "> quoted", "more", "", "Setext", "---", "", "1. x", "2. y", "", "end",
].join("\n");

test("a text that grew character by character reads like the whole of it", () => {
  const reader = new BlockReader();
  for (let length = 1; length < TEXT.length; length++) reader.read(TEXT.slice(0, length), true);
  expect(reader.read(TEXT, true).map(({ type, raw }) => [type, raw])).toEqual(lexer(TEXT).map(({ type, raw }) => [type, raw]));
});

test("blocks that are settled are the same objects, and little is read again", () => {
  const reader = new BlockReader();
  const paragraphs = Array.from({ length: 200 }, (_, index) => `Paragraph ${index}.`).join("\n\n");
  const before = reader.read(paragraphs, true);
  const after = reader.read(`${paragraphs} And more.`, true);
  expect(after.filter((block, index) => block === before[index]).length).toBeGreaterThan(390);
});

test("other line ends and tabs are no trouble", () => {
  const reader = new BlockReader();
  const text = "a\r\n\r\nb\r\n\r\n\tcode\r\n\r\nc\r\n\r\nd";
  for (let length = 1; length <= text.length; length++) {
    expect(reader.read(text.slice(0, length), true).map(({ type }) => type)).toEqual(lexer(text.slice(0, length)).map(({ type }) => type));
  }
});

test("entities are text, and links are safe or none", () => {
  expect(unescapeText("a &amp; b &lt;i&gt; &#39;x&#x27; &unknown; &#0; &#xd800;")).toBe("a & b <i> 'x' &unknown; \ufffd \ufffd");
  expect(["https://a.b", "mailto:a@b", "javascript:alert(1)", "data:text/html,x", " JavaScript:x", "/local"].map(isSafeLink)).toEqual([true, true, false, false, false, false]);
});
