/** Tools that this page executes for agents that ask for them. The server picks one window for each call. */

import type { FrontendTool } from "@threadwire/react";

export const BROWSER_TOOLS: { readonly [name: string]: FrontendTool } = {
  /** What the browser knows of where and when it is. */
  browser_info: {
    execute: () => ({
      language: navigator.language,
      time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      local_time: new Date().toString(),
      window: { width: window.innerWidth, height: window.innerHeight },
    }),
  },
};
