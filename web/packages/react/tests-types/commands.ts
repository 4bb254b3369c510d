/** An application that types its commands: what fits compiles, and what doesn't is an error. */

import { useSendCommand, useThreadState } from "@threadwire/react";

declare module "@threadwire/react" {
  interface ThreadwireCommands {
    "set-title": { title: string };
    "go-on": object;
  }
}

interface State {
  readonly plan: { readonly percent: number };
}

export function useTypedCommands(): number | undefined {
  const send = useSendCommand();
  send({ type: "set-title", title: "Lunch" }, { strategy: "reject" });
  send({ type: "go-on" });
  send({ type: "switch-branch", messageId: "m1" });
  // @ts-expect-error -- of another type
  send({ type: "set-title", title: 5 });
  // @ts-expect-error -- without its field
  send({ type: "set-title" });
  // @ts-expect-error -- no such command
  send({ type: "set-titel", title: "Lunch" });
  // @ts-expect-error -- no such strategy
  send({ type: "go-on" }, { strategy: "later" });
  return useThreadState((state: State | null) => state?.plan.percent);
}
