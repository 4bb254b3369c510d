/** What stands beside the messages under the state's key `threadwire`, as far as messages show it. */

import { type CommandView, type Json, type JsonObject, equal, isObject } from "@threadwire/client";
import { arrayOf, objectOf, textOf } from "./converter.js";

/** A question that a run waits on. Spec: PROTOCOL.md §8.4. */
export interface Interrupt {
  readonly id: string;
  readonly value: Json;
  readonly ns: Json | undefined;
  /** The JSON Schema of the answer, where the agent gave one. */
  readonly schema: JsonObject | undefined;
  /** An answer is on its way. */
  readonly answered: boolean;
}

/** What an agent asks to be allowed to do: one of the actions of an interrupt of LangChain's middleware. */
export interface Approval {
  readonly id: string;
  readonly interrupt: Interrupt;
  readonly index: number;
  readonly name: string;
  readonly args: JsonObject;
  readonly description: string | undefined;
  readonly decisions: readonly string[];
}

/** What somebody says to an approval, in the form that LangChain's middleware reads. */
export type Decision =
  | { readonly type: "approve" }
  | { readonly type: "edit"; readonly edited_action: { readonly name: string; readonly args: JsonObject } }
  | { readonly type: "reject"; readonly message?: string }
  | { readonly type: "respond"; readonly message: string };

export interface Overlay {
  readonly interrupts: readonly Interrupt[];
  readonly approvals: readonly Approval[];
  /** Decisions that were taken here and wait for others of the same interrupt, by approval id. */
  readonly decided: ReadonlyMap<string, Decision>;
  /** Calls that a client is to answer, by tool call id. */
  readonly calls: JsonObject;
  /** Tools at work, by tool call id. */
  readonly tools: JsonObject;
  /** Results on their way to the server, by tool call id. */
  readonly results: ReadonlyMap<string, JsonObject>;
}

const EMPTY: JsonObject = {};
const NO_DECISIONS: ReadonlyMap<string, Decision> = new Map();

export const EMPTY_OVERLAY: Overlay = {
  interrupts: [],
  approvals: [],
  decided: NO_DECISIONS,
  calls: EMPTY,
  tools: EMPTY,
  results: new Map(),
};

/** Makes overlays; the same one where nothing has changed. */
export class OverlayReader {
  #sources: readonly unknown[] = [];
  #overlay = EMPTY_OVERLAY;

  read(state: Json, commands: readonly CommandView[], decided: ReadonlyMap<string, Decision> = NO_DECISIONS): Overlay {
    const beside = isObject(state) ? objectOf(state["threadwire"]) : undefined;
    const answers = commands.filter(isAnswer);
    const sources = [beside?.["interrupts"], beside?.["tool_calls"], beside?.["tools"], decided, ...answers];
    if (sources.length === this.#sources.length && sources.every((source, index) => source === this.#sources[index])) {
      return this.#overlay;
    }
    this.#sources = sources;
    const interrupts = interruptsOf(objectOf(beside?.["interrupts"]), answers);
    const results = new Map<string, JsonObject>();
    for (const { command } of answers) {
      if (command.type === "add-tool-result") results.set(String(command["toolCallId"]), command);
    }
    this.#overlay = {
      interrupts,
      approvals: interrupts.flatMap(approvalsOf),
      decided,
      calls: objectOf(beside?.["tool_calls"]) ?? EMPTY,
      tools: objectOf(beside?.["tools"]) ?? EMPTY,
      results,
    };
    return this.#overlay;
  }
}

const isAnswer = ({ command, status }: CommandView): boolean =>
  (command.type === "resume" || command.type === "add-tool-result") && status !== "rejected" && status !== "cancelled";

function interruptsOf(open: JsonObject | undefined, answers: readonly CommandView[]): Interrupt[] {
  const answered = new Set(answers.flatMap(({ command }) => Object.keys(objectOf(command["answers"]) ?? EMPTY)));
  return Object.entries(open ?? EMPTY).map(([id, given]) => {
    const { value = null, ns, response_schema } = objectOf(given) ?? EMPTY;
    return { id, value, ns, schema: objectOf(response_schema), answered: answered.has(id) };
  });
}

/** The actions of an interrupt that is a request of LangChain's human-in-the-loop middleware. */
export function approvalsOf(interrupt: Interrupt): Approval[] {
  const value = objectOf(interrupt.value);
  const actions = arrayOf(value?.["action_requests"]).map(objectOf);
  if (actions.some((action) => textOf(action?.["name"]) === undefined)) return [];
  const configs = arrayOf(value?.["review_configs"]).map(objectOf);
  return actions.map((action, index) => {
    const name = textOf(action?.["name"]) ?? "";
    const config = configs.find((each) => each?.["action_name"] === name);
    const decisions = arrayOf(config?.["allowed_decisions"]).flatMap((each) => textOf(each) ?? []);
    return {
      id: `${interrupt.id}#${index}`,
      interrupt,
      index,
      name,
      args: objectOf(action?.["args"]) ?? objectOf(action?.["arguments"]) ?? EMPTY,
      description: textOf(action?.["description"]),
      decisions: decisions.length > 0 ? decisions : ["approve", "reject"],
    };
  });
}

/** The approval that a tool call waits for. Calls with the same name and arguments are told apart by their order. */
export function approvalFor(overlay: Overlay, name: string, args: Json, taken: Set<Approval>): Approval | undefined {
  const found = overlay.approvals.find((each) => !taken.has(each) && each.name === name && equal(each.args, args));
  if (found !== undefined) taken.add(found);
  return found;
}
