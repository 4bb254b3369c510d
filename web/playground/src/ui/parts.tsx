/** Small parts that several places use. */

import { type ButtonHTMLAttributes, type ReactNode, createContext, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import { Icon, type IconName } from "./icons.js";

interface IconButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  readonly icon: IconName;
  readonly label: string;
}

export function IconButton({ icon, label, className = "", ...rest }: IconButtonProps): ReactNode {
  return (
    <button type="button" className={`icon-button ${className}`} aria-label={label} title={label} {...rest}>
      <Icon name={icon} />
    </button>
  );
}

/** Copies a text, and says so for a moment. */
export function CopyButton({ text, label }: { readonly text: () => string; readonly label: string }): ReactNode {
  const [copied, setCopied] = useState(false);
  const say = useToast();
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = (): void => {
    copyText(text())
      .then(() => setCopied(true))
      .catch(() => say("The browser doesn't let this page copy."));
  };
  return <IconButton icon={copied ? "check" : "copy"} label={copied ? "Copied" : label} onClick={copy} />;
}

async function copyText(text: string): Promise<void> {
  // Browsers give the clipboard to pages of this machine and of https only.
  const clipboard = navigator.clipboard as Clipboard | undefined;
  if (clipboard !== undefined) return clipboard.writeText(text);
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "sr-only";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (before instanceof HTMLElement) before.focus();
  if (!copied) throw new Error("nothing was copied");
}

/** A picture that the page has with it; broken ones are said to be. */
export function InlinePicture({ src, alt }: { readonly src: string; readonly alt: string }): ReactNode {
  const [broken, setBroken] = useState<string | null>(null);
  if (broken !== src) return <img className="picture" src={src} alt={alt} onError={() => setBroken(src)} />;
  return (
    <span className="file faint">
      <Icon name="alert" /> {alt || "A picture"}: it can't be shown
    </span>
  );
}

/** A text of a schema, in which `code` stands between backticks. */
export function Described({ text }: { readonly text: string }): ReactNode {
  const parts = text.split(/`([^`]+)`/);
  return <p className="faint small">{parts.map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : part))}</p>;
}

/** A value as JSON that people can read. */
export function Json({ value }: { readonly value: unknown }): ReactNode {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return (
    <pre className="json" tabIndex={0}>
      {text}
    </pre>
  );
}

export function Spinner({ label }: { readonly label?: string }): ReactNode {
  return <span className="spinner" {...(label === undefined ? { "aria-hidden": true } : { role: "status", "aria-label": label })} />;
}

interface Toast {
  readonly id: number;
  readonly text: string;
}
const Toasts = createContext<(text: string) => void>(() => {});

/** Says something for a few seconds, to screen readers too. */
export const useToast = (): ((text: string) => void) => useContext(Toasts);

export function ToastArea({ children }: { readonly children: ReactNode }): ReactNode {
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const next = useRef(1);
  const dismiss = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const say = useCallback((text: string) => {
    const id = next.current++;
    setToasts((all) => [...all.filter((toast) => toast.text !== text).slice(-2), { id, text }]);
    setTimeout(() => dismiss(id), 8000);
  }, [dismiss]);
  return (
    <Toasts.Provider value={say}>
      {children}
      <div className="toasts" role="status" aria-live="polite">
        {toasts.map((toast) => (
          <div key={toast.id} className="toast">
            <span>{toast.text}</span>
            <IconButton icon="close" label="Dismiss" onClick={() => dismiss(toast.id)} />
          </div>
        ))}
      </div>
    </Toasts.Provider>
  );
}

/** Tabs that arrow keys move between. */
export function Tabs<T extends string>(props: {
  readonly label: string;
  readonly tabs: readonly { readonly id: T; readonly name: string; readonly badge?: number | undefined }[];
  readonly selected: T;
  readonly onSelect: (id: T) => void;
  readonly panel: string;
}): ReactNode {
  const { label, tabs, selected, onSelect, panel } = props;
  const move = (event: React.KeyboardEvent<HTMLDivElement>): void => {
    const at = tabs.findIndex((tab) => tab.id === selected);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length]!;
    onSelect(tab.id);
    event.currentTarget.querySelector<HTMLElement>(`[data-tab="${tab.id}"]`)?.focus();
  };
  return (
    <div className="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {tabs.map((tab) => (
        <button
          key={tab.id}
          type="button"
          role="tab"
          id={`${panel}-tab-${tab.id}`}
          data-tab={tab.id}
          aria-selected={tab.id === selected}
          aria-controls={panel}
          tabIndex={tab.id === selected ? 0 : -1}
          onClick={() => onSelect(tab.id)}
        >
          {tab.name}
          {tab.badge ? <span className="count">{tab.badge}</span> : null}
        </button>
      ))}
    </div>
  );
}

/** The time of now, in milliseconds of the page's clock, kept up to date while it is needed. */
export function useNow(every_ms: number, isNeeded = true): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    if (!isNeeded) return;
    const timer = setInterval(() => setNow(performance.now()), every_ms);
    return () => clearInterval(timer);
  }, [every_ms, isNeeded]);
  return now;
}

export function useMedia(query: string): boolean {
  const list = useMemo(() => window.matchMedia(query), [query]);
  const [matches, setMatches] = useState(list.matches);
  useEffect(() => {
    const look = (): void => setMatches(list.matches);
    look();
    list.addEventListener("change", look);
    return () => list.removeEventListener("change", look);
  }, [list]);
  return matches;
}
