import { act } from "react";
import { createRoot } from "react-dom/client";
import { expect, test, vi } from "vitest";
import { Boundary } from "../src/ui/boundary.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

test("a page that can't be drawn says so, and a new thread can be begun", async () => {
  const told = vi.spyOn(console, "error").mockImplementation(() => {});
  const place = document.createElement("div");
  const root = createRoot(place);
  window.location.hash = "#/threads/odd";
  function Page() {
    if (window.location.hash !== "") throw new Error("odd state");
    return "a new thread";
  }
  await act(async () => root.render(<Boundary><Page /></Boundary>));
  expect(place.querySelector("[role=alert]")!.textContent).toContain("odd state");
  await act(async () => [...place.querySelectorAll("button")].find((each) => each.textContent === "Begin a new thread")!.click());
  expect(place.textContent).toBe("a new thread");
  await act(async () => root.unmount());
  told.mockRestore();
});
