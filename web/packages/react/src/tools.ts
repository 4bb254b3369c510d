/**
 * Executes the calls that the server gives to this connection, each once.
 *
 * The server says by a `tool` frame which of the connections that know the tool is to execute a
 * call; so two windows on one thread don't both do it. Spec: PROTOCOL.md §8.7.
 */

import type { JsonObject, Thread, ThreadSnapshot } from "@threadwire/client";
import type { FrontendTool, Handlers } from "./adapter.js";

export class ToolRunner {
  readonly #thread: Thread;
  readonly #answer: Handlers["onToolResult"];
  readonly #running = new Map<string, AbortController>();

  constructor(thread: Thread, answer: Handlers["onToolResult"]) {
    this.#thread = thread;
    this.#answer = answer;
  }

  /** Begins what is asked for and not begun, and stops what isn't asked for any longer. */
  run(snapshot: ThreadSnapshot, tools: { readonly [name: string]: FrontendTool }): void {
    if (snapshot.id !== this.#thread.id) return;
    const open = (snapshot.state as { threadwire?: { tool_calls?: JsonObject } } | null)?.threadwire?.tool_calls ?? {};
    for (const [id, controller] of this.#running) {
      if (open[id] === undefined) {
        controller.abort();
        this.#running.delete(id);
      }
    }
    for (const call of snapshot.toolCalls) {
      const id = call.tool_call_id;
      const tool = tools[call.name];
      if (tool === undefined || this.#running.has(id) || open[id] === undefined) continue;
      if (snapshot.commands.some(({ command }) => command.type === "add-tool-result" && command["toolCallId"] === id)) continue;
      const controller = new AbortController();
      this.#running.set(id, controller);
      void this.#execute(tool, call.name, call.args, id, controller.signal);
    }
  }

  /** Aborts all that runs; what it still gives is not sent. */
  stop(): void {
    for (const controller of this.#running.values()) controller.abort();
    this.#running.clear();
  }

  async #execute(tool: FrontendTool, toolName: string, args: unknown, toolCallId: string, abortSignal: AbortSignal): Promise<void> {
    let answer: { result: unknown; isError: boolean };
    try {
      answer = { result: await tool.execute(args as never, { toolCallId, abortSignal }), isError: false };
    } catch (error) {
      answer = { result: error instanceof Error ? error.message : String(error), isError: true };
    }
    if (abortSignal.aborted) return;
    try {
      this.#answer({ toolCallId, toolName, ...answer });
    } catch {
      // The result is no JSON value: the agent is told, since it waits.
      this.#answer({ toolCallId, toolName, result: "the tool gave what is no JSON value", isError: true });
    }
  }
}
