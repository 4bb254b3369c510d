// Stock assistant-ui runtimes in a page without a browser, driven by lines of JSON.
//
// In come calls, `{"id", "op", "page", ...}`; out go their results, `{"id", "ok"}` or `{"id", "failed"}`,
// and what pages show and do: `{"page", "event", ...}`. Nothing of the packages is changed: `fetch` is
// only watched, and delayed or cut where a test asks for it.

import { createInterface } from "node:readline";
import { JSDOM, VirtualConsole } from "jsdom";

const dom = new JSDOM("<!doctype html><body></body>", {
  url: "http://localhost/",
  pretendToBeVisual: true,
  virtualConsole: new VirtualConsole(),
});
globalThis.window = dom.window;
globalThis.navigator ??= dom.window.navigator;
for (const name of ["document", "HTMLElement", "Element", "Node", "MutationObserver", "getComputedStyle"])
  globalThis[name] = dom.window[name];
for (const name of ["requestAnimationFrame", "cancelAnimationFrame"])
  globalThis[name] = dom.window[name].bind(dom.window);

const { createElement: h, useEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const {
  AssistantRuntimeProvider,
  unstable_createMessageConverter: createMessageConverter,
  useAssistantTool,
  useAssistantTransportRuntime,
  useAssistantTransportSendCommand,
  useAui,
  useRemoteThreadListRuntime,
} = await import("@assistant-ui/react");
const { convertLangChainMessages } = await import("@assistant-ui/react-langgraph");
const { useDataStreamRuntime } = await import("@assistant-ui/react-data-stream");
const { createAssistantStream, ToolResponse } = await import("assistant-stream");

const write = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const pages = new Map();

// The header that says which page a request is of is taken off again before it goes out.
const PAGE = "x-test-page";
const stockFetch = globalThis.fetch;
globalThis.fetch = async (url, init = {}) => {
  const headers = new Headers(init.headers);
  const page = pages.get(headers.get(PAGE));
  headers.delete(PAGE);
  if (page === undefined) return stockFetch(url, init);
  const path = new URL(url).pathname + new URL(url).search;
  page.tell("request", {
    method: init.method ?? "GET",
    path,
    body: init.body === undefined ? null : JSON.parse(init.body),
    headers: Object.fromEntries(headers),
  });
  const cut = (page.cut = new AbortController());
  const signal = init.signal ? AbortSignal.any([init.signal, cut.signal]) : cut.signal;
  const response = await stockFetch(url, { ...init, headers, signal });
  page.tell("response", { path, status: response.status, headers: Object.fromEntries(response.headers) });
  return response;
};

for (const level of ["warn", "error"])
  console[level] = (...args) => write({ page: null, event: "console", level, text: args.map(String).join(" ") });
process.on("unhandledRejection", (error) =>
  write({ page: null, event: "unhandled", text: String(error?.stack ?? error) }),
);

const toGeneric = (message) => ({
  id: message.id,
  role: message.role,
  content: typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content,
});
const langchain = createMessageConverter(convertLangChainMessages);
const generic = createMessageConverter(toGeneric);

const pendingMessages = (commands) =>
  commands
    .filter((command) => command.type === "add-message")
    .map((command) => ({
      type: "human",
      role: "user",
      content: command.message.parts.filter((part) => part.type === "text").map((part) => part.text).join("\n"),
    }));

const convert = (converter) => (state, connection) => ({
  messages: converter.toThreadMessages([
    ...(state?.messages ?? []),
    ...pendingMessages(connection.pendingCommands),
  ], connection.isSending, { toolStatuses: connection.toolStatuses }),
  state,
  isRunning: connection.isSending,
});

/** The server's threads as a stock thread list has them. */
const threadList = (base, headers) => {
  const ask = async (method, path, body) => {
    const response = await fetch(base + path, {
      method,
      headers: { ...headers, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`Status ${response.status}: ${await response.text()}`);
    return response.status === 204 ? undefined : response.json();
  };
  const at = (id) => `/threads/${encodeURIComponent(id)}`;
  const record = (thread) => ({
    remoteId: thread.id,
    status: thread.archived ? "archived" : "regular",
    title: thread.title ?? undefined,
    lastMessageAt: new Date(thread.updated_at * 1000),
    custom: thread.custom,
  });
  return {
    async list({ after } = {}) {
      const cursor = after === undefined ? "" : `&cursor=${encodeURIComponent(after)}`;
      const page = await ask("GET", `/threads?archived=include&limit=2${cursor}`);
      return { threads: page.threads.map(record), nextCursor: page.cursor ?? undefined };
    },
    initialize: async () => ({ remoteId: (await ask("POST", "/threads", {})).id }),
    rename: (id, title) => ask("PATCH", at(id), { title }),
    updateCustom: (id, custom) => ask("PATCH", at(id), { custom: custom ?? {} }),
    archive: (id) => ask("POST", `${at(id)}/archive`),
    unarchive: (id) => ask("POST", `${at(id)}/unarchive`),
    delete: (id) => ask("DELETE", at(id)),
    fetch: async (id) => record(await ask("GET", at(id))),
    generateTitle: async (id) =>
      createAssistantStream(async (controller) => {
        controller.appendText((await ask("POST", `${at(id)}/title`)).title ?? "");
      }),
  };
};

class Page {
  constructor(name, options) {
    this.name = name;
    this.options = options;
    this.shown = 0;
  }

  tell(event, fields) {
    write({ page: this.name, event, ...fields });
  }

  open() {
    const { options } = this;
    const headers = { [PAGE]: this.name, ...options.headers };
    const handlers = {
      onError: (error, { commands } = {}) =>
        this.tell("error", { text: error.message, name: error.name, commands: commands ?? null }),
      onFinish: () => this.tell("finish", {}),
      onCancel: (params) => this.tell("cancel", { commands: params?.commands ?? null }),
    };
    // The first message of a listed thread goes out before the runtime knows the id that the list has given it.
    const useBody = () => {
      const aui = useAui();
      if (!options.threads || options.late) return options.use.body;
      return async () => ({ ...options.use.body, threadId: (await aui.threadListItem.initialize()).remoteId });
    };
    const useInner =
      options.runtime === "data-stream"
        ? () =>
            useDataStreamRuntime({
              ...options.use,
              ...handlers,
              headers,
              body: useBody(),
              onData: (data) => this.tell("data", { data }),
            })
        : () =>
            useAssistantTransportRuntime({
              initialState: { messages: [] },
              capabilities: { edit: true },
              ...options.use,
              ...handlers,
              headers,
              body: useBody(),
              converter: (this.converter ??= convert(options.converter === "generic" ? generic : langchain)),
              ...(options.ids && {
                prepareSendCommandsRequest: (body) => ({
                  ...body,
                  commands: body.commands.map((command, n) => ({ ...command, id: `${options.ids}-${n}` })),
                }),
              }),
            });
    const list = options.threads && threadList(options.threads, headers);
    const useRuntime = list
      ? () => useRemoteThreadListRuntime({ adapter: list, runtimeHook: useInner, threadId: options.thread })
      : useInner;
    const tools = options.tools ?? [];
    const page = this;

    function Inside() {
      if (options.runtime !== "data-stream") page.command = useAssistantTransportSendCommand();
      for (const tool of tools)
        useAssistantTool({
          toolName: tool.name,
          description: tool.description,
          parameters: tool.parameters ?? { type: "object", properties: {} },
          execute: async (args) => {
            page.tell("execute", { tool: tool.name, args });
            if (tool.failure) throw new Error(tool.failure);
            return tool.result;
          },
        });
      return null;
    }

    function App() {
      const runtime = (page.runtime = useRuntime());
      useEffect(() => {
        const show = () => page.show();
        const stops = [runtime.thread.subscribe(show), runtime.threads.subscribe(show)];
        show();
        return () => stops.forEach((stop) => stop());
      }, [runtime]);
      return h(AssistantRuntimeProvider, { runtime }, h(Inside));
    }

    this.root = createRoot(document.body.appendChild(document.createElement("div")), {
      onUncaughtError: (error) => this.tell("crash", { text: String(error?.stack ?? error) }),
    });
    this.root.render(h(App));
  }

  show() {
    const thread = this.runtime.thread.getState();
    const { threadIds, archivedThreadIds, threadItems, mainThreadId } = this.runtime.threads.getState();
    const state = thread.extras ? thread.state : undefined;
    const shown = {
      messages: thread.messages.map(({ id, role, status, content, metadata }) => ({
        id,
        role,
        status,
        content,
        custom: metadata?.custom,
        data: metadata?.unstable_data,
        steps: metadata?.steps,
      })),
      running: thread.isRunning,
      loading: thread.isLoading,
      state,
      thread: mainThreadId,
      remote: threadItems?.[mainThreadId]?.remoteId ?? null,
      threads: threadIds.map((id) => ({ id, title: threadItems?.[id]?.title ?? null, custom: threadItems?.[id]?.custom ?? null })),
      archived: archivedThreadIds,
    };
    const text = JSON.stringify(shown);
    if (text === this.last) return;
    this.last = text;
    this.tell("show", shown);
  }

  message(index) {
    return this.runtime.thread.getMessageByIndex(index);
  }
}

const operations = {
  open: (page, { options }, name) => {
    page = new Page(name, options);
    pages.set(name, page);
    page.open();
  },
  close: (page) => {
    page.root.unmount();
    page.cut?.abort();
    pages.delete(page.name);
  },
  /** The connection breaks, which the page has no part in. */
  cut: (page) => page.cut.abort(new TypeError("the network is gone")),
  send: (page, { text, parts }) =>
    page.runtime.thread.append({
      role: "user",
      content: parts ?? [{ type: "text", text }],
    }),
  edit: (page, { index, text }) => {
    const composer = page.message(index).composer;
    composer.beginEdit();
    composer.setText(text);
    composer.send();
  },
  reload: (page, { index }) => page.message(index).reload(),
  branch: (page, { index, position }) => page.message(index).switchToBranch({ position }),
  stop: (page) => page.runtime.thread.cancelRun(),
  resume: (page) => page.runtime.thread.resumeRun({ parentId: page.runtime.thread.getState().messages.at(-1)?.id ?? null }),
  commands: (page, { commands }) => commands.forEach((command) => page.command(command)),
  result: (page, { call, result, error }) => {
    for (const message of page.runtime.thread.getState().messages)
      for (const [index, part] of message.content.entries())
        if (part.type === "tool-call" && part.toolCallId === call) {
          const shown = page.runtime.thread.getMessageById(message.id).getMessagePartByIndex(index);
          return shown.addToolResult(error ? new ToolResponse({ result, isError: true }) : result);
        }
    throw new Error(`no call ${call} is shown`);
  },
  load: (page, { state }) => page.runtime.thread.importExternalState(state),
  newThread: (page) => page.runtime.threads.switchToNewThread(),
  switchThread: (page, { thread }) => page.runtime.threads.switchToThread(thread),
  thread: (page, { thread, method, args }) => page.runtime.threads.getItemById(thread)[method](...(args ?? [])),
  loadMore: (page) => page.runtime.threads.loadMore(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, page: name, ...params } = JSON.parse(line);
  // One after the other begins, but none waits for the end of another.
  (async () => {
    try {
      await operations[op](pages.get(name), params, name);
      write({ id, ok: true });
    } catch (error) {
      write({ id, failed: String(error?.stack ?? error) });
    }
  })();
}
process.exit(0);
