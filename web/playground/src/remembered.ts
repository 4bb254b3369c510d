/** Small choices of the user that this browser remembers. */

import { useCallback, useState } from "react";

export function useRemembered<T extends string | number | boolean>(name: string, initial: T): readonly [T, (value: T) => void] {
  const key = `threadwire.${name}`;
  const [value, setValue] = useState<T>(() => {
    try {
      const found: unknown = JSON.parse(localStorage.getItem(key) ?? "null");
      return typeof found === typeof initial ? (found as T) : initial;
    } catch {
      return initial;
    }
  });
  const remember = useCallback(
    (next: T) => {
      setValue(next);
      try {
        localStorage.setItem(key, JSON.stringify(next));
      } catch {
        // Then it is remembered until the page is left.
      }
    },
    [key],
  );
  return [value, remember];
}
