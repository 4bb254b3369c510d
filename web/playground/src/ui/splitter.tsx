import type { ReactNode } from "react";

const LEAST = 320;
const most = (): number => Math.max(LEAST, Math.round(window.innerWidth * 0.7));

/** Changes the width of what is to the right of it: by dragging, and by the arrow keys. */
export function Splitter({ width, onWidth }: { readonly width: number; readonly onWidth: (width: number) => void }): ReactNode {
  const set = (next: number): void => onWidth(Math.round(Math.min(most(), Math.max(LEAST, next))));
  return (
    <div
      className="splitter"
      role="separator"
      aria-orientation="vertical"
      aria-label="Width of the state"
      aria-valuenow={width}
      aria-valuemin={LEAST}
      aria-valuemax={most()}
      tabIndex={0}
      onKeyDown={(event) => {
        const step = { ArrowLeft: 24, ArrowRight: -24 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        set(width + step);
      }}
      onPointerDown={(event) => {
        event.preventDefault();
        const { currentTarget, pointerId, clientX } = event;
        currentTarget.setPointerCapture(pointerId);
        const move = (moved: PointerEvent): void => set(width + clientX - moved.clientX);
        currentTarget.addEventListener("pointermove", move);
        currentTarget.addEventListener("lostpointercapture", () => currentTarget.removeEventListener("pointermove", move), { once: true });
      }}
    />
  );
}
