/** Markdown as blocks, read again only from where it grew. */

import { type Token, lexer } from "marked";

/** A text that streams changes at its end: so many blocks before that may still become others. */
const UNSETTLED = 2;

export class BlockReader {
  #text = "";
  #blocks: readonly Token[] = [];

  /** The blocks of a text; those before the last few are the same objects as long as the text only grows. */
  read(text: string, isGrowing: boolean): readonly Token[] {
    if (text === this.#text && isGrowing) return this.#blocks;
    let kept: readonly Token[] = [];
    if (isGrowing && this.#text !== "" && text.startsWith(this.#text)) {
      let settled = this.#blocks.length;
      for (let unsettled = 0; settled > 0 && unsettled < UNSETTLED; settled--) {
        if (this.#blocks[settled - 1]!.type !== "space") unsettled += 1;
      }
      kept = this.#blocks.slice(0, settled);
    }
    const from = kept.reduce((length, block) => length + block.raw.length, 0);
    // The lexer gives line ends and tabs in forms of its own; then offsets mean nothing.
    const fits = text.slice(0, from) === kept.map((block) => block.raw).join("");
    this.#blocks = fits ? [...kept, ...lexer(text.slice(from))] : lexer(text);
    this.#text = text;
    return this.#blocks;
  }
}

const ENTITIES: { readonly [name: string]: string } = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Text with the entities that markdown allows in it. */
export function unescapeText(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]+));/g, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return Object.hasOwn(ENTITIES, name) ? ENTITIES[name]! : whole;
    const code = decimal === undefined ? Number.parseInt(hex!, 16) : Number(decimal);
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : "\ufffd";
  });
}

/** Whether a link may be followed from here. */
export const isSafeLink = (href: string): boolean => /^(?:https?:|mailto:|tel:)/i.test(href.trim());
