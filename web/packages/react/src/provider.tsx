/** The runtime around an application. */

import { AssistantRuntimeProvider } from "@assistant-ui/react";
import type { ReactNode } from "react";
import { type ThreadwireRuntimeOptions, useThreadwireRuntime } from "./runtime.js";

export interface ThreadwireProviderProps extends ThreadwireRuntimeOptions {
  readonly children: ReactNode;
}

/**
 * `useThreadwireRuntime` with assistant-ui's provider around `children`.
 *
 * The children come from above, so a token renders what shows it and not the whole application.
 */
export function ThreadwireProvider({ children, ...options }: ThreadwireProviderProps): ReactNode {
  const runtime = useThreadwireRuntime(options);
  return <AssistantRuntimeProvider runtime={runtime}>{children}</AssistantRuntimeProvider>;
}
