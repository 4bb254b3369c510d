// Writes the vectors beside it: what assistant-ui's own code makes of many inputs.
//
//   npm install @assistant-ui/core@0.3.20 @assistant-ui/react-langgraph@0.14.25 react react-dom
//   node generate.mjs FOLDER_OF_NODE_MODULES
//
// Tests read the vectors only. Made-up ids and times read "<new>".

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const core = await load("@assistant-ui/core");
const internal = await load("@assistant-ui/core/internal");
const react = await load("@assistant-ui/core/react");
const stream = await load("assistant-stream/utils");
const { toGenericMessages } = await load("assistant-stream");
const { convertLangChainMessages } = await load("@assistant-ui/react-langgraph");
console.warn = () => {};

let seed = 1;
const random = (n) => {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return Math.floor((seed / 2147483648) * n);
};
const pick = (list) => list[random(list.length)];
const chance = (percent) => random(100) < percent;
const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));

const write = (name, comment, cases) => {
  const lines = cases.map((each) => "  " + JSON.stringify(each));
  const file = new URL(`./${name}.json`, import.meta.url);
  writeFileSync(file, `{"comment": ${JSON.stringify(comment)}, "cases": [\n${lines.join(",\n")}\n]}\n`);
  console.log(name, cases.length);
};

const strings = (value, found = new Set()) => {
  if (typeof value === "string") found.add(value);
  else if (value && typeof value === "object") Object.values(value).forEach((v) => strings(v, found));
  return found;
};
const IDS = ["id", "toolCallId", "messageId", "parentId", "headId"];
const normal = (value, known) => {
  const walk = (v, key) => {
    if (Array.isArray(v)) return v.map((item) => walk(item, key));
    if (v && typeof v === "object" && !(v instanceof Date))
      return Object.fromEntries(Object.entries(v).map(([k, item]) => [k, walk(item, k)]));
    if (key === "createdAt") return known.has(v instanceof Date ? v.toISOString() : v) ? v : "<new>";
    if (IDS.includes(key) && typeof v === "string" && !known.has(v) && !v.startsWith("__external"))
      return "<new>";
    return v;
  };
  return JSON.parse(JSON.stringify(walk(JSON.parse(JSON.stringify(value)))));
};
const attempt = (input, run) => {
  try {
    return { expected: normal(run(), strings(input)) };
  } catch (error) {
    return { error: error.message };
  }
};
const dated = (like) => (like.createdAt ? { ...like, createdAt: new Date(like.createdAt) } : like);

// partial JSON
const DOCUMENTS = [
  '{"city":"Paris","days":[1,2,{"a":null}],"ok":true,"none":false}',
  '{"a":-1.5e+10,"b":[],"c":{},"d":"x\\"y\\\\z\\u00e9\\n","e":[[1],[true,null]]}',
  ' { "spaced" : [ 1 , -2.0 ] , "k\\u0041" : "v" } ',
  '["list", {"of": "things"}]',
  '{"emoji":"\\ud83d\\ude00 \u{1F600}","2":1,"1":2}',
];
const GARBAGE = [
  "", " ", "{", "[", "nul", "null", "1", '"text"', "{]", "[}", "{a:1}", '{"a":1,}', '{"a" 1}', "[1,]",
  '{"a":1} trailing', '{"a":1}{"b":2}', '{"__proto__":{"x":1}}', '{"a":{"constructor":{"prototype":1}}}',
  '{"constructor":1}', '{"a":NaN}', '{"a":undefined}', "{'a':1}", '{"a":01}', '{"a":"\t"}', '{"a":tru,"b":1}',
  '{"a":1 "b":2}', "}", '{"a":+1}', '{"\\u005f_proto__":1}', "\ufeff{}", '{"a":"\\x"}', '{"a":1,,"b":2}', '{"a":.5}',
];
const prefixes = DOCUMENTS.flatMap((text) => times(text.length + 1, (i) => text.slice(0, i)));
// A half of a surrogate pair is no text.
const whole = [...prefixes, ...GARBAGE].filter((text) => text.isWellFormed?.() ?? !/[\ud800-\udbff]$/.test(text));
write(
  "partial_json",
  "args as far as they can be read; null where nothing can",
  whole
    .map((text) => ({ text, expected: stream.parsePartialJsonObject(text) ?? null }))
    .filter((each) => !/\\ud83d(?!\\ude00)/.test(JSON.stringify(each.expected))),
);

// message-likes
const PNG = "data:image/png;base64,AAAA";
const PARTS = [
  () => ({ type: "text", text: pick(["hi", "", " ", "\u00a0", "\ufeff", "\x1c", "two\nlines", "\u0085"]) }),
  () => ({ type: "text", text: "t", parentId: "p", providerMetadata: { x: { y: 1 } }, status: { type: "running" } }),
  () => ({ type: "reasoning", text: pick(["think", " ", ""]), ...(chance(50) && { unstable_summary: pick(["s", " "]) }) }),
  () => ({ type: "reasoning", text: "more", parentId: pick(["r1", "r2", ""]) }),
  () => ({ type: "image", image: pick([PNG, "https://x/y.png", "HTTPS://x", "http://x/y.png", "blob:1", "data:text/plain;base64,AA", "DATA:image/PNG;x=1;base64,AA", "javascript:1", "data:image/png,AA"]), ...(chance(30) && { filename: "f.png" }) }),
  () => ({ type: "file", data: "AAAA", mimeType: "text/plain", ...(chance(40) && { filename: "f", sourceType: "url" }) }),
  () => ({ type: "audio", audio: { data: "AA", format: "mp3" } }),
  () => ({ type: "data", name: "chart", data: pick([{ a: 1 }, null, [1], "x", 0]) }),
  () => ({ type: "data-weather", data: pick([{ t: 20 }, null, 3]) }),
  () => ({ type: "source", sourceType: "url", id: "s1", url: "https://x", title: "X" }),
  () => ({ type: "source", sourceType: "document", id: "s2", title: "D", mediaType: "application/pdf" }),
  () => ({ type: "generative-ui", spec: { root: { component: "Card" } }, id: "g" }),
  () => toolCall(),
  () => ({ type: "unheard-of" }),
];
const FITTING = { user: [0, 1, 4, 5, 6, 7, 8], assistant: [0, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 12, 12], system: [0] };
const part = (role) => (chance(97) ? PARTS[pick(FITTING[role])] : pick(PARTS))();
const toolCall = () => ({
  type: "tool-call",
  ...(chance(85) && { toolCallId: pick(["c1", "c2", "c3", ""]) }),
  toolName: pick(["search", "shell"]),
  ...(chance(50) && { args: pick([{}, { q: "x" }, { 2: 1, 1: 2, b: 1.5, a: [1e21, -0, 1e-7, null, true] }, { s: "é\u2028\u0001\"" }]) }),
  ...(chance(50) && { argsText: pick(["", "{", '{"q":"pa', '{"q":1}', "nonsense"]) }),
  ...(chance(40) && { result: pick([null, 0, "", "done", { a: 1 }, false]) }),
  ...(chance(20) && { isError: chance(50) }),
  ...(chance(15) && { artifact: pick([{ b: 2 }, null]) }),
  ...(chance(15) && { interrupt: { type: "human", payload: { ask: 1 } } }),
  ...(chance(20) && { approval: pick([{ id: "a" }, { id: "a", approved: true }, { id: "a", approved: false }, { id: "a", resolution: "expired" }]) }),
  ...(chance(10) && { parentId: "p" }),
  ...(chance(15) && { messages: [nested()] }),
  ...(chance(10) && { timing: { startedAt: 1, completedAt: 2 }, providerMetadata: { m: { n: 1 } } }),
});
const nested = () => ({
  id: "n1", role: "assistant", createdAt: "2024-01-02T03:04:05.678Z", content: [{ type: "text", text: "sub" }],
  status: pick([{ type: "running" }, { type: "complete", reason: "stop" }]),
  metadata: { unstable_state: null, unstable_annotations: [], unstable_data: [], steps: [], custom: {} },
});
const STATUSES = [
  { type: "running" }, { type: "complete", reason: "stop" }, { type: "requires-action", reason: "interrupt" },
  { type: "incomplete", reason: "error", error: { a: 1 } }, { type: "incomplete", reason: "cancelled" },
];
const metadata = (assistant) => ({
  ...(chance(50) && { custom: pick([{}, { a: 1 }, { a: 2, b: { c: 1 } }]) }),
  ...(assistant && chance(30) && { unstable_state: pick([null, { s: 1 }, 0]) }),
  ...(assistant && chance(30) && { unstable_annotations: [pick([1, { n: 1 }])], unstable_data: [pick(["d", 2])] }),
  ...(assistant && chance(30) && { steps: [{ usage: { inputTokens: 1, outputTokens: 2 } }] }),
  ...(assistant && chance(20) && { timing: { streamStartTime: 1, totalChunks: 2, toolCallCount: 0, tokenCount: 3 } }),
  ...(assistant && chance(20) && { submittedFeedback: pick([{ type: "positive" }, { type: "negative", comment: "no" }]) }),
  ...(chance(20) && { isOptimistic: chance(50) }),
  ...(chance(5) && { modality: "voice" }),
});
const like = () => {
  const role = pick(["user", "assistant", "assistant", "system"]);
  const most = role === "system" ? 1 : random(5);
  return {
    role,
    content: chance(25) ? pick(["plain", "", " "]) : times(most, () => part(role)),
    ...(chance(60) && { id: `m${random(5)}` }),
    ...(chance(40) && { createdAt: "2024-05-06T07:08:09.010Z" }),
    ...((role === "assistant" ? chance(30) : chance(4)) && { status: pick(STATUSES) }),
    ...(role === "user" && chance(20) && { attachments: [{ id: "at", type: "image", name: "n", contentType: "image/png", content: [{ type: "image", image: "http://kept" }, { type: "data-x", data: 1 }], status: { type: "complete" } }] }),
    ...(chance(50) && { metadata: metadata(role === "assistant" || chance(3)) }),
  };
};
const reader = (status) => (one) => internal.fromThreadMessageLike(dated(one), "fallback", status);
write(
  "message_like",
  "a message-like, and the thread message with the fallback id `fallback` and the fallback status",
  times(200, () => {
    const input = like();
    const status = pick(STATUSES);
    return { input, status, ...attempt([input, "fallback"], () => reader(status)(input)) };
  }),
);

// joins
const toolResult = () => ({
  role: "tool",
  toolCallId: pick(["c1", "c2", "c3", "c9", ""]),
  ...(chance(60) && { toolName: pick(["search", "search", "shell"]) }),
  result: pick([null, "r", { r: 1 }, 0]),
  ...(chance(30) && { artifact: { art: 1 } }),
  ...(chance(40) && { isError: chance(50) }),
});
const output = () => {
  if (chance(30)) return toolResult();
  const one = like();
  return { ...one, ...(one.role === "assistant" && chance(12) && { convertConfig: { joinStrategy: "none" } }) };
};
write(
  "joins",
  "the outputs of a converter by message, joined; `cancelled` are the ids that were cancelled",
  times(200, () => {
    const outputs = times(random(7), () => times(chance(80) ? 1 : random(4), output));
    const isRunning = chance(40);
    const error = chance(20) ? pick(["", 0, "failed", { code: "x" }]) : undefined;
    const joinStrategy = chance(25) ? "none" : undefined;
    const cancelled = chance(20) ? ["m1", "m2"] : undefined;
    const input = { outputs, isRunning, ...(error !== undefined && { error }), ...(joinStrategy && { joinStrategy }), ...(cancelled && { cancelled }) };
    const messages = outputs.map((each) => ({ each }));
    const run = () => {
      const callback = ({ each }) => each.map(dated);
      // The public function has no join strategy; the outputs carry it instead.
      const strategic = joinStrategy
        ? ({ each }) => each.map((o) => (o.role === "assistant" ? { ...dated(o), convertConfig: { joinStrategy } } : o))
        : callback;
      return react.convertExternalMessages(messages, strategic, isRunning, {
        ...(error !== undefined && { error }),
        ...(cancelled && { cancelledMessageIds: new Set(cancelled) }),
      });
    };
    return { ...input, ...attempt(input, run) };
  }),
);

// LangChain
const block = () => pick([
  { type: "text", text: pick(["hello", "", " "]) },
  { type: "text_delta", text: "more" },
  { type: "image_url", image_url: pick([PNG, { url: "https://x/y.png" }, {}, "http://x"]) },
  { type: "thinking", thinking: pick(["hm", ""]) },
  { type: "reasoning", summary: pick([[{ type: "summary_text", text: "a" }, { type: "summary_text", text: "b" }], [], [{}]]), reasoning: "long" },
  { type: "reasoning", reasoning: "short" },
  { type: "file", data: "AA", mime_type: "text/plain", source_type: "base64", metadata: { filename: "f.txt" } },
  { type: "file", url: "https://x/f", source_type: "url" },
  { type: "file", id: "file-1", mime_type: "application/pdf", source_type: "id" },
  { type: "audio", data: "AA", mime_type: pick(["audio/mp3", "application/ogg"]), source_type: "base64" },
  { type: "tool_use", id: "c1", name: "search", input: {} },
  { type: "input_json_delta", partial_json: "{" },
  { type: "computer_call", call_id: "cc1", id: "x", action: { kind: "click", 2: 1, 1: 2 }, pending_safety_checks: [], index: 0 },
  { type: "unheard-of", x: 1 },
]);
const ids = () => (chance(80) ? { id: `m${random(8)}` } : {});
const kwargs = () => (chance(25) ? { additional_kwargs: { ...(chance(60) && { metadata: { k: random(3) } }), ...(chance(30) && { reasoning: { type: "reasoning", summary: [{ type: "summary_text", text: "why" }] } }), ...(chance(20) && { tool_outputs: [{ type: "computer_call", call_id: "cc2", action: { x: 1 } }] }), ...(chance(20) && { audio: { id: "a", transcript: pick(["spoken", " "]) } }) } } : {});
const call = (i) => ({
  ...(chance(85) ? { id: pick(["c1", "c2", "c3"]) } : { id: "" }),
  name: pick(["search", "shell"]),
  args: pick([{}, { q: "x" }, { 10: "b", 9: "a", z: 1 }]),
  ...(chance(15) && { index: i + random(3) }),
  ...(chance(25) && { partial_json: pick(["", '{"q":"pa', "{}", "oops"]) }),
});
const langchain = () => {
  const type = pick(["human", "ai", "ai", "ai", "tool", "tool", "system", "remove", "AIMessageChunk"]);
  const content = chance(50) ? pick(["hello", "", " ", "\u00a0x"]) : chance(10) ? null : times(random(4), block);
  if (type === "human" || type === "system")
    return { type, ...ids(), content: type === "system" ? "rules" : content, ...kwargs() };
  if (type === "tool")
    return { type, ...ids(), content: pick(["ok", "", "[1]"]), tool_call_id: pick(["c1", "c2", "c3", "lost", ""]), name: pick(["search", "search", "shell", null]), status: pick(["success", "error"]), ...(chance(30) && { artifact: pick([{ a: 1 }, null]) }) };
  if (type !== "ai") return { type, id: "m1", content: "" };
  const calls = chance(50) ? times(random(3) + 1, call) : undefined;
  return {
    type, ...ids(), content, ...kwargs(),
    ...(calls && { tool_calls: calls }),
    ...(calls && chance(30) && { tool_call_chunks: calls.map((each, index) => ({ index, id: each.id, name: each.name, ...(chance(60) && { args: pick(['{"q":"st', '{"q":1}', ""]) }), ...(chance(20) && { args_json: '{"j":1}' }) })) }),
    ...(chance(5) && { status: { type: "incomplete", reason: "length" } }),
  };
};
write(
  "langchain",
  "LangChain messages, converted and joined",
  times(300, () => {
    const messages = times(random(8), langchain);
    const isRunning = chance(40);
    const error = chance(15) ? pick(["failed", { code: "x" }, ""]) : undefined;
    const input = { messages, isRunning, ...(error !== undefined && { error }) };
    const run = () => react.convertExternalMessages(messages, convertLangChainMessages, isRunning, error === undefined ? {} : { error });
    return { ...input, ...attempt(input, run) };
  }),
);

// generic messages
const PlainURL = globalThis.URL;
class WrittenURL extends PlainURL {
  constructor(text, base) {
    super(text, base);
    this.text = text;
  }
  toJSON() {
    return this.text;
  }
}
globalThis.URL = WrittenURL;
const generic = [];
try {
  for (const input of times(120, () => times(random(4) + 1, like))) {
    let messages;
    try {
      const read = input.map((each) => reader(STATUSES[1])({ ...each, createdAt: "2024-05-06T07:08:09.010Z" }));
      messages = JSON.parse(JSON.stringify(read).replace(/"tool-\w{7}"/g, '"tool-made-up"'));
    } catch {
      continue;
    }
    generic.push({ messages, expected: JSON.parse(JSON.stringify(toGenericMessages(messages))) });
  }
} finally {
  globalThis.URL = PlainURL;
}
write("generic_messages", "thread messages for a model's provider", generic);

// repository
const thread = (id, optimistic) =>
  internal.fromThreadMessageLike({ role: "assistant", content: [{ type: "text", text: id }], id, createdAt: new Date(0), ...(optimistic && { metadata: { isOptimistic: true } }) }, id, STATUSES[1]);
const brief = (m) => m.map((each) => each.id);
write(
  "repository",
  "operations on a repository of messages; after each: what it gave or whether it was refused, head, path",
  times(120, () => {
    const repository = new internal.MessageRepository();
    const names = times(7, (i) => `m${i}`);
    let broken = false;
    const steps = times(random(14) + 4, () => {
      const kind = pick(["add", "add", "add", "add", "delete", "switch", "reset", "branches", "messages", "import"]);
      const id = pick(names);
      const parent = chance(20) ? null : pick(names);
      const step = { kind };
      const run = {
        add: () => {
          Object.assign(step, { id, parent, optimistic: chance(12) });
          repository.addOrUpdateMessage(parent, thread(id, step.optimistic));
        },
        delete: () => {
          const replacement = pick([undefined, undefined, undefined, null, pick(names)]);
          Object.assign(step, { id, ...(replacement !== undefined && { replacement }) });
          if (replacement === id) throw new Error("below itself");
          repository.deleteMessage(id, replacement);
        },
        switch: () => (Object.assign(step, { id }), repository.switchToBranch(id)),
        reset: () => (Object.assign(step, { id: chance(10) ? null : id }), repository.resetHead(step.id)),
        branches: () => (Object.assign(step, { id }), [...repository.getBranches(id)]),
        messages: () => (Object.assign(step, { id }), brief(repository.getMessages(id))),
        import: () => {
          if (!chance(25)) return;
          const items = times(random(4) + 1, (i) => ({ parentId: i ? `i${random(i)}` : null, id: `i${i}` }));
          const headId = chance(50) ? pick(items).id : undefined;
          Object.assign(step, { items, ...(headId && { headId }) });
          repository.clear();
          repository.import({ headId, messages: items.map((each) => ({ parentId: each.parentId, message: thread(each.id) })) });
        },
      }[kind];
      const before = JSON.stringify(repository.export());
      try {
        const gave = run();
        if (gave !== undefined) step.gave = gave;
      } catch {
        step.refused = true;
        // What was refused half-way leaves a tree that nobody should have.
        if (JSON.stringify(repository.export()) !== before) broken = true;
      }
      if (broken) return null;
      const { headId, messages } = repository.export();
      return { ...step, head: repository.headId, path: brief(repository.getMessages()), export: { headId, messages: messages.map((m) => [m.message.id, m.parentId]) } };
    });
    return { steps: steps.filter((step) => step && (step.kind !== "import" || step.items)) };
  }),
);

// external store
const HANDLERS = {
  setMessages: "set_messages", onEdit: "on_edit", onReload: "on_reload", onCancel: "on_cancel", onResume: "on_resume",
  onDelete: "on_delete", onAddToolResult: "on_add_tool_result", onRefetchThread: "on_refetch_thread",
};
const ADAPTERS = ["attachments", "speech", "dictation", "feedback"];
const provider = { getModelContext: () => ({}), subscribe: () => () => {} };
write(
  "capabilities",
  "what a runtime can do, by the handlers and adapters it is given",
  times(64, () => {
    const handlers = Object.keys(HANDLERS).filter(() => chance(50));
    const adapters = ADAPTERS.filter(() => chance(40));
    const copy = chance(80);
    const runtime = new internal.ExternalStoreThreadRuntimeCore(provider, {
      messages: [],
      onNew: async () => {},
      ...Object.fromEntries(handlers.map((name) => [name, async () => {}])),
      adapters: Object.fromEntries(adapters.map((name) => [name, {}])),
      unstable_capabilities: { copy },
    });
    return { handlers: handlers.map((name) => HANDLERS[name]), adapters, copy, expected: runtime.capabilities };
  }),
);

const tick = () => new Promise((resolve) => setTimeout(resolve, 2));
const trace = async () => {
  let count = 0;
  let messages = [];
  let isRunning = false;
  const calls = [];
  const known = new Set();
  const next = (role, text) => {
    const id = `h${count++}`;
    known.add(id);
    return { id, role, content: [{ type: "text", text: text ?? id }] };
  };
  const brief = (list) => list.map((m) => (known.has(m.id) ? m.id : "<new>"));
  const named = (id) => (id === null || known.has(id) ? id : "<new>");
  let runtime;
  const show = () => runtime?.__internal_setAdapter(adapter());
  const convertMessage = (m) => m;
  const handlers = {
    convertMessage,
    onNew: async (m) => {
      calls.push(["new", named(m.parentId), m.content[0]?.text]);
      messages = [...messages, next("user", m.content[0]?.text)];
      show();
    },
    onEdit: async (m) => {
      calls.push(["edit", named(m.parentId), named(m.sourceId)]);
      const at = messages.findIndex((each) => each.id === m.parentId);
      messages = [...messages.slice(0, at + 1), next("user", m.content[0]?.text)];
      show();
    },
    onReload: async (parentId) => {
      calls.push(["reload", named(parentId)]);
      messages = messages.slice(0, messages.findIndex((each) => each.id === parentId) + 1);
      isRunning = true;
      show();
    },
    onCancel: async () => {
      calls.push(["cancel"]);
      isRunning = false;
      show();
    },
    setMessages: (list) => {
      calls.push(["set", brief(list)]);
      messages = list;
      show();
    },
  };
  const adapter = () => ({ messages, isRunning, ...handlers });
  runtime = new internal.ExternalStoreThreadRuntimeCore(provider, adapter());
  const steps = [];
  for (let i = 0; i < 14; i++) {
    const shown = runtime.messages;
    const kind = pick(["new", "new", "answer", "answer", "stream", "stop", "edit", "reload", "switch", "delete", "cancel", "cut"]);
    const target = shown.length ? pick(shown) : null;
    if (["edit", "reload", "switch", "delete"].includes(kind) && (!target || !known.has(target.id))) continue;
    const step = { kind };
    calls.length = 0;
    if (kind === "new") await runtime.append({ role: "user", content: [{ type: "text", text: (step.text = `t${i}`) }], attachments: [], metadata: { custom: {} }, parentId: shown.at(-1)?.id ?? null, sourceId: null, runConfig: {}, createdAt: new Date() });
    else if (kind === "answer") { isRunning = true; messages = [...messages, next("assistant")]; show(); }
    else if (kind === "stream") {
      if (messages.at(-1)?.role !== "assistant") continue;
      isRunning = true;
      const last = messages.at(-1);
      messages = [...messages.slice(0, -1), { ...last, content: [{ type: "text", text: last.content[0].text + "+" }] }];
      show();
    } else if (kind === "stop") { isRunning = false; show(); }
    else if (kind === "cut") { const at = random(messages.length + 1); Object.assign(step, { at }); messages = messages.slice(0, at); show(); }
    else if (kind === "cancel") { runtime.cancelRun(); await tick(); runtime.composer.setText(""); step.text = ""; }
    else if (kind === "edit") {
      if (target.role !== "user") continue;
      step.id = target.id;
      const { parentId } = runtime.getMessageById(target.id);
      await runtime.append({ role: "user", content: [{ type: "text", text: "edited" }], attachments: [], metadata: { custom: {} }, parentId, sourceId: target.id, runConfig: {}, createdAt: new Date() });
    } else if (kind === "reload") {
      if (target.role !== "assistant") continue;
      step.id = target.id;
      await runtime.startRun({ parentId: runtime.getMessageById(target.id).parentId, sourceId: target.id, runConfig: {} });
    } else if (kind === "switch") {
      const other = pick(runtime.getBranches(target.id));
      if (!known.has(other)) continue;
      step.id = other;
      runtime.switchToBranch(other);
    } else if (kind === "delete") {
      // Where there are siblings, ours shows one of them.
      if (runtime.getBranches(target.id).length > 1) continue;
      step.id = target.id;
      await runtime.deleteMessage(target.id);
    }
    steps.push({
      ...step,
      calls: JSON.parse(JSON.stringify(calls)),
      shown: brief(runtime.messages),
      statuses: runtime.messages.map((m) => m.status?.type ?? null),
      branches: runtime.messages.map((m) => brief(runtime.getBranches(m.id).map((id) => ({ id })))),
      running: isRunning,
    });
  }
  return { steps };
};
const traces = [];
for (let i = 0; i < 60; i++) traces.push(await trace());
write("external_store", "what users and the owner of the messages do, what the owner is told, what is shown then", traces);

// local runtime
const toolPart = (id, withResult) => ({
  type: "tool-call", toolCallId: id, toolName: pick(["search", "ask"]), args: {}, argsText: "{}",
  ...(withResult && { result: pick(["found", null]) }), ...(chance(15) && !withResult && { approval: { id: `ap-${id}` } }),
});
let calls = 0;
const round = (last) => {
  const tools = chance(60) ? times(random(2) + 1, () => toolPart(`c${calls++}`, chance(30))) : [];
  const content = [{ type: "text", text: pick(["", "a", "b"]) }, ...tools];
  const results = times(random(3), (i) => ({ content: content.slice(0, i + 1) }));
  const status = tools.length ? pick([undefined, { type: "requires-action", reason: "tool-calls" }, { type: "requires-action", reason: "tool-calls" }]) : pick([undefined, undefined, undefined, { type: "complete", reason: "stop" }, { type: "incomplete", reason: "length" }, { type: "requires-action", reason: "interrupt" }, { type: "requires-action", reason: "tool-calls" }, { type: "running" }]);
  results.push({ content, ...(status && { status }), metadata: { steps: [{}], ...(chance(20) && { custom: { k: random(3) } }), ...(chance(20) && { unstable_state: { n: random(3) } }), ...(chance(20) && { unstable_data: [1] }) } });
  const end = pick([...times(14, () => "end"), "error", "abort", "hang"]);
  return { results, end, whole: end === "end" && chance(25) };
};
const settle = async () => {
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setTimeout(resolve, 0));
};
const localTrace = async () => {
  const names = new Map();
  const name = (id) => (id === null ? null : (names.has(id) || names.set(id, `m${names.size}`), names.get(id)));
  const options = {
    maxSteps: pick([undefined, undefined, 0, 1, 3]),
    humanTools: pick([undefined, undefined, [], ["ask"]]),
    update: chance(50),
  };
  const log = [];
  let script = [];
  let asleep = false; // a model that hangs
  const run = async function* (one, { abortSignal }) {
    for (const result of one.results) yield result;
    if (one.end === "error") throw new Error("boom");
    if (one.end === "abort") throw Object.assign(new Error("stopped"), { name: "AbortError" });
    if (one.end === "hang") {
      asleep = true;
      await new Promise((resolve) => abortSignal.addEventListener("abort", resolve, { once: true }));
      asleep = false;
      yield { content: [{ type: "text", text: "too late" }] };
    }
  };
  const model = {
    run: (given) => {
      log.push(["model", given.messages.map((m) => m.id), given.unstable_getMessage().content.length]);
      const one = script.shift() ?? { results: [{ content: [{ type: "text", text: "plain" }], metadata: { steps: [{}] } }], end: "end" };
      if (one.whole) return Promise.resolve(one.results.at(-1));
      return run(one, given);
    },
  };
  const kept = (kind) => async (item) => void log.push([kind, item.message.id, item.parentId, item.message.status?.type ?? null]);
  const history = { load: async () => ({ messages: [] }), append: kept("append"), ...(options.update && { update: kept("update") }) };
  const suggestion = { generate: async ({ messages }) => (log.push(["suggest", messages.length]), [{ prompt: `s${messages.length}` }]) };
  const runtime = new internal.LocalThreadRuntimeCore(provider, {
    ...(options.maxSteps !== undefined && { maxSteps: options.maxSteps }),
    ...(options.humanTools && { unstable_humanToolNames: options.humanTools }),
    adapters: { chatModel: model, history, suggestion },
  });
  await runtime.__internal_load();
  const steps = [];
  for (let i = 0; i < 8; i++) {
    const shown = runtime.messages;
    const last = shown.at(-1);
    const openCalls = last?.role === "assistant" ? last.content.filter((c) => c.type === "tool-call" && c.result === undefined) : [];
    const waits = openCalls.length && last.status.type === "requires-action";
    const kind = waits && chance(85) ? pick(["result", "result", "answer"]) : asleep && chance(80) ? "cancel" : pick(["append", "append", "append", "quiet", "edit", "reload", "switch", "cancel", "resume", "edit-assistant"]);
    const step = { kind };
    log.length = 0;
    script = times(random(3) + 1, round);
    const planned = [...script];
    // A run that others take the place of is marked at once here, and ends by itself there.
    if (asleep && kind !== "cancel") continue;
    const append = (more) => ({ role: "user", content: [{ type: "text", text: "text" }], attachments: [], metadata: { custom: {} }, runConfig: {}, createdAt: new Date(), sourceId: null, parentId: last?.id ?? null, ...more });
    let going;
    if (kind === "append") going = runtime.append(append({}));
    else if (kind === "quiet") going = runtime.append(append({ startRun: false }));
    else if (kind === "edit" || kind === "edit-assistant") {
      const target = pick(shown.filter((m) => m.role === (kind === "edit" ? "user" : "assistant")));
      if (!target) continue;
      step.id = name(target.id);
      going = runtime.append(append({ role: target.role, parentId: runtime.getMessageById(target.id).parentId, sourceId: target.id }));
    } else if (kind === "reload" || kind === "resume") {
      const target = pick(shown.filter((m) => m.role === "assistant"));
      if (!target) continue;
      step.id = name(target.id);
      const config = { parentId: runtime.getMessageById(target.id).parentId, sourceId: target.id, runConfig: {} };
      if (kind === "reload") going = runtime.startRun(config);
      else {
        step.stream = round();
        going = runtime.resumeRun({ ...config, stream: (given) => run(step.stream, given) });
      }
    } else if (kind === "switch") {
      if (!shown.length) continue;
      const target = pick(runtime.getBranches(pick(shown).id));
      step.id = name(target);
      runtime.switchToBranch(target);
    } else if (kind === "cancel") runtime.cancelRun();
    else if (kind === "result") {
      if (!openCalls.length) continue;
      Object.assign(step, { id: name(last.id), call: pick(openCalls).toolCallId, isError: chance(20) });
      runtime.addToolResult({ messageId: last.id, toolCallId: step.call, toolName: "x", result: "given", isError: step.isError });
    } else if (kind === "answer") {
      const open = openCalls.filter((c) => c.approval && c.approval.approved === undefined);
      if (!open.length || last.status.type !== "requires-action") continue;
      Object.assign(step, { approval: open[0].approval.id, approved: chance(60) });
      runtime.respondToToolApproval({ approvalId: step.approval, approved: step.approved });
    }
    let raised = null;
    going?.catch((error) => (raised = error.message));
    await settle();
    const now = runtime.messages;
    if (planned.length > script.length) step.script = planned.slice(0, planned.length - script.length);
    steps.push({
      ...step,
      raised,
      shown: now.map((m) => ({
        id: name(m.id), role: m.role, status: m.status ?? null,
        content: m.content.map((c) => (c.type === "text" ? c.text : [c.toolCallId, c.result === undefined ? "-" : c.result, c.isError ?? null, c.approval ?? null])),
        ...(m.role === "assistant" && { metadata: [m.metadata.unstable_state, m.metadata.unstable_data.length, m.metadata.steps.length, m.metadata.custom] }),
      })),
      branches: now.map((m) => runtime.getBranches(m.id).map(name)),
      log: log.map((each) => (each[0] === "model" ? ["model", each[1].map(name), each[2]] : each[0] === "suggest" ? each : [each[0], name(each[1]), name(each[2]), each[3]])),
      suggestions: runtime.suggestions.map((each) => each.prompt),
    });
  }
  return { ...options, steps };
};
const locals = [];
while (locals.length < 80) locals.push(await localTrace());
write("local", "a scripted model, what users do, and what is shown, kept and asked after each step", locals);

// data streams
const stream_ = await load("assistant-stream");
const streamLine = () => {
  const id = pick(["c1", "c2", "c3"]);
  return pick([
    () => ["0", pick(["Hel", "lo", " ", "é"])], () => ["0", "x"], () => ["g", "think"],
    () => ["aui-text-delta", { textDelta: "t", parentId: pick(["p", "q"]) }],
    () => ["aui-reasoning-delta", { reasoningDelta: "r", parentId: "p" }],
    () => ["aui-reasoning-part-start", { unstable_summary: "s", ...(chance(50) && { parentId: "p" }) }],
    () => ["b", { toolCallId: id, toolName: "find", ...(chance(20) && { parentId: "p" }) }],
    () => ["b", { toolCallId: `n${random(1e6)}`, toolName: "find" }],
    () => ["c", { toolCallId: id, argsTextDelta: pick(['{"q":', '"x"}', "", "{}"]), ...(chance(25) && { isFinal: true }) }],
    () => ["9", { toolCallId: id, toolName: "find", args: { q: 1 } }],
    () => ["a", { toolCallId: id, result: pick([1, null, { a: 1 }]), ...(chance(30) && { isError: true }), ...(chance(30) && { artifact: { b: 1 } }) }],
    () => ["h", { sourceType: "url", id: "s", url: "https://x", ...(chance(50) && { title: "X" }), ...(chance(30) && { parentId: "p" }) }],
    () => ["k", { data: "AA", mimeType: "text/plain" }], () => ["aui-data", { name: "n", data: { x: 1 } }],
    () => ["2", [1]], () => ["8", [{ a: 1 }]], () => ["f", { messageId: "m" }],
    () => ["e", { finishReason: "stop", usage: { inputTokens: 1, outputTokens: 2 }, isContinued: false }],
    () => ["aui-state", [{ type: "set", path: ["a", "b"], value: pick([1, "x"]) }]],
    () => ["aui-state", [{ type: "set", path: [], value: { t: "" } }, { type: "append-text", path: ["t"], value: "y" }]],
    () => ["i", {}], () => ["j", {}],
  ])();
};
const ENDS = [[], [], [["d", { finishReason: "stop", usage: { inputTokens: 1, outputTokens: 1 } }]], [["d", { finishReason: "tool-calls", usage: { inputTokens: 1, outputTokens: 1 } }]], [["d", { finishReason: "length", usage: { inputTokens: 1, outputTokens: 1 } }]], [["3", "boom"]], [["3", "boom"], ["d", { finishReason: "stop", usage: { inputTokens: 1, outputTokens: 1 } }]], [["zz", 1]]];
const streams = [];
while (streams.length < 150) {
  const lines = [...times(random(10), streamLine), ...pick(ENDS)];
  let text = lines.map(([type, value]) => `${type}:${JSON.stringify(value)}${pick(["\n", "\n", "\n", "\r\n", "\n\n"])}`).join("");
  if (chance(10)) text += pick(["no colon\n", "0:broken\n", "0:\"cut", "  \n"]);
  const bytes = new TextEncoder().encode(text);
  const at = random(bytes.length + 1);
  const body = new ReadableStream({ start(c) { c.enqueue(bytes.slice(0, at)); c.enqueue(bytes.slice(at)); c.close(); } });
  let last = null;
  let error;
  const log = console.error;
  console.error = () => {};
  try {
    const messages = body.pipeThrough(new stream_.DataStreamDecoder()).pipeThrough(new stream_.AssistantMessageAccumulator());
    for await (const message of stream.asAsyncIterableStream(messages)) last = message;
  } catch (e) {
    error = e.message;
  }
  console.error = log;
  const bare = (part) => {
    const { timing, state, status, ...rest } = part;
    return part.type === "text" || part.type === "reasoning" ? { ...rest, status } : rest;
  };
  streams.push({
    text, at,
    ...(error ? { error } : { expected: last && normal({ parts: last.parts.map(bare), status: last.status, metadata: { ...last.metadata, timing: undefined } }, strings(lines)) }),
  });
}
write("data_streams", "a data stream, cut into two pieces at a byte, and the message it adds up to; null without any", streams);
