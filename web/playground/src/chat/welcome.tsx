import { useAui } from "@assistant-ui/react";
import type { ReactNode } from "react";
import { Mark } from "../ui/icons.js";

/** What the bundled agents are good for; others get none. */
const SUGGESTIONS: { readonly [agent: string]: readonly string[] } = {
  assistant: [
    "How far is it from Lisbon to Oslo, and which is warmer in May?",
    "What is 17% of 2,450, and the square root of that?",
    "Send a postcard to Ada that says: Greetings from Lisbon",
    "What can you do?",
  ],
  planner: ["Plan a picnic for twelve people", "Learn to juggle in a week", "Tidy up the garage"],
  scripted: ["count 300 every 20", "Say this back to me, word by word", "hang until I stop you", "fail on purpose"],
};

export function Welcome(props: {
  readonly agent: string | undefined;
  readonly agents: readonly string[];
  readonly onAgent: ((agent: string) => void) | undefined;
}): ReactNode {
  const { agent, agents, onAgent } = props;
  const aui = useAui();
  const suggestions = (agent !== undefined && Object.hasOwn(SUGGESTIONS, agent) && SUGGESTIONS[agent]) || [];
  return (
    <div className="welcome">
      <Mark />
      <h1>{agent === undefined ? "Begin a thread" : `Talk to ${agent}`}</h1>
      <p>The chat is one view of a live document. The other is beside it: watch it change while the agent works.</p>
      {onAgent !== undefined && agents.length > 1 ? (
        <div className="agent-chips" role="group" aria-label="Agent">
          {agents.map((name) => (
            <button key={name} type="button" aria-pressed={name === agent} onClick={() => onAgent(name)}>
              {name}
            </button>
          ))}
        </div>
      ) : null}
      {suggestions.length > 0 ? (
        <div className="suggestions" role="group" aria-label="Suggestions">
          {suggestions.map((text) => (
            <button key={text} type="button" onClick={() => void aui.thread().append(text)}>
              {text}
            </button>
          ))}
        </div>
      ) : null}
    </div>
  );
}
