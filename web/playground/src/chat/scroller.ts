/**
 * Where the conversation is scrolled to: it keeps to the end while the reader is there, and else stays
 * where the reader is, whatever is written below and whoever begins a run.
 *
 * Positions are read when the browser has laid the page out anyway; reading them on each change of
 * a text that streams would make it do that once more.
 */

import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** So near to the end, in pixels, who scrolls down has reached it: it may have moved on meanwhile. */
const NEAR_PX = 48;

export interface Scroller {
  readonly viewport: RefObject<HTMLDivElement | null>;
  readonly content: RefObject<HTMLDivElement | null>;
  readonly isAtEnd: boolean;
  readonly toEnd: () => void;
  /** What is about to be added goes in above: what is read stays where it is. */
  readonly addAbove: () => void;
}

/** @param thread another one is shown from its end */
export function useScroller(thread: string | null): Scroller {
  const viewport = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const fromEnd = useRef<number | null>(null);
  const [isAtEnd, setAtEnd] = useState(true);

  const toEnd = useCallback(() => {
    follows.current = true;
    const { current: view } = viewport;
    if (view !== null) view.scrollTop = view.scrollHeight;
  }, []);
  const addAbove = useCallback(() => {
    const { current: view } = viewport;
    if (view === null) return;
    follows.current = false;
    fromEnd.current = view.scrollHeight - view.scrollTop;
  }, []);

  useLayoutEffect(toEnd, [thread, toEnd]);
  useEffect(() => {
    const { current: view } = viewport;
    if (view === null) return;
    let before = view.scrollTop;
    const look = (): void => {
      const top = view.scrollTop;
      const left = view.scrollHeight - view.clientHeight - top;
      // Upwards it is the reader who scrolls, unless there is less than there was.
      if (top < before) follows.current = left <= 1;
      else if (top > before && left <= NEAR_PX) follows.current = true;
      before = top;
      setAtEnd(left <= NEAR_PX);
    };
    const sizes = new ResizeObserver(() => {
      if (fromEnd.current !== null) view.scrollTop = view.scrollHeight - fromEnd.current;
      else if (follows.current) view.scrollTop = view.scrollHeight;
      fromEnd.current = null;
      look();
    });
    sizes.observe(view);
    if (content.current !== null) sizes.observe(content.current);
    view.addEventListener("scroll", look, { passive: true });
    return () => {
      sizes.disconnect();
      view.removeEventListener("scroll", look);
    };
  }, []);
  return { viewport, content, isAtEnd, toEnd, addAbove };
}
