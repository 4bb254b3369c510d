/** Text of an assistant, as markdown that may still be growing. HTML in it is text like any other. */

import { useMessagePartText } from "@assistant-ui/react";
import type { Token, Tokens } from "marked";
import { type ReactNode, memo, useState } from "react";
import { CopyButton, InlinePicture } from "../ui/parts.js";
import { BlockReader, isSafeLink, unescapeText } from "./markdown-blocks.js";

export function Markdown(): ReactNode {
  const { text, status } = useMessagePartText();
  const [reader] = useState(() => new BlockReader());
  const blocks = reader.read(text, status.type === "running");
  return (
    <div className="markdown">
      {blocks.map((block, index) => (
        <Block key={index} block={block} />
      ))}
    </div>
  );
}

const Block = memo(
  function Block({ block }: { readonly block: Token }): ReactNode {
    return render(block, 0);
  },
  (before, after) => before.block === after.block || (before.block.raw === after.block.raw && before.block.type === after.block.type),
);

const all = (tokens: readonly Token[] | undefined): ReactNode => tokens?.map((token, index) => render(token, index));

function render(token: Token, key: number): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "paragraph":
      return <p key={key} dir="auto">{all(token.tokens)}</p>;
    case "heading": {
      const Level = `h${Math.min(6, (token as Tokens.Heading).depth + 1)}` as "h2";
      return <Level key={key} dir="auto">{all(token.tokens)}</Level>;
    }
    case "code":
      return <Code key={key} text={token.text as string} language={(token as Tokens.Code).lang} />;
    case "blockquote":
      return <blockquote key={key} dir="auto">{all(token.tokens)}</blockquote>;
    case "hr":
      return <hr key={key} />;
    case "list":
      return <List key={key} list={token as Tokens.List} />;
    case "table":
      return <Table key={key} table={token as Tokens.Table} />;
    case "strong":
      return <strong key={key}>{all(token.tokens)}</strong>;
    case "em":
      return <em key={key}>{all(token.tokens)}</em>;
    case "del":
      return <del key={key}>{all(token.tokens)}</del>;
    case "codespan":
      return <code key={key}>{token.text as string}</code>;
    case "br":
      return <br key={key} />;
    case "link":
      return (
        <Link key={key} href={token.href as string}>
          {all(token.tokens)}
        </Link>
      );
    case "image":
      return <Picture key={key} href={token.href as string} text={token.text as string} />;
    case "checkbox":
      return <input key={key} type="checkbox" checked={(token as Tokens.Checkbox).checked} readOnly disabled aria-label={token.checked ? "done" : "open"} />;
    case "escape":
      return token.text as string;
    case "text":
      return "tokens" in token && token.tokens ? <span key={key}>{all(token.tokens)}</span> : unescapeText(token.text as string);
    default:
      return token.raw;
  }
}

function Code({ text, language }: { readonly text: string; readonly language: string | undefined }): ReactNode {
  return (
    <div className="code-block">
      <header>
        <span>{language?.split(/\s/)[0] || "text"}</span>
        <CopyButton label="Copy the code" text={() => text} />
      </header>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </div>
  );
}

function List({ list }: { readonly list: Tokens.List }): ReactNode {
  const items = list.items.map((item, index) => (
    <li key={index} className={item.task ? "task" : undefined}>
      {all(item.tokens)}
    </li>
  ));
  return list.ordered ? <ol dir="auto" start={typeof list.start === "number" ? list.start : 1}>{items}</ol> : <ul dir="auto">{items}</ul>;
}

function Table({ table }: { readonly table: Tokens.Table }): ReactNode {
  return (
    <div className="table" tabIndex={0} role="group" aria-label="Table">
      <table>
        <thead>
          <tr>
            {table.header.map((cell, index) => (
              <th key={index} dir="auto" style={{ textAlign: table.align[index] ?? undefined }}>
                {all(cell.tokens)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, index) => (
                <td key={index} dir="auto" style={{ textAlign: table.align[index] ?? undefined }}>
                  {all(cell.tokens)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Link({ href, children }: { readonly href: string; readonly children: ReactNode }): ReactNode {
  if (!isSafeLink(href)) return <span>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

/** Pictures from elsewhere would tell the world what is read here: they are links. */
function Picture({ href, text }: { readonly href: string; readonly text: string }): ReactNode {
  if (/^data:image\//i.test(href)) return <InlinePicture src={href} alt={text} />;
  return <Link href={href}>{text || "Picture"}</Link>;
}
