export type { FrontendTool } from "./adapter.js";
export { type AttachmentOptions, fileAttachments } from "./attachments.js";
export type {
  AddMessage,
  AddToolResult,
  BuiltInCommand,
  Command,
  MessagePart,
  Regenerate,
  Resume,
  SwitchBranch,
  ThreadwireCommands,
} from "./commands.js";
export type { ConvertContext, Converter, Part, ToolCallPart } from "./convert/converter.js";
export { stateConverter } from "./convert/index.js";
export { type ToolProgress, langchainConverter } from "./convert/langchain.js";
export { messagesConverter } from "./convert/messages.js";
export type { Approval, Decision, Interrupt, Overlay } from "./convert/overlay.js";
export * from "./hooks.js";
export { ThreadwireProvider, type ThreadwireProviderProps } from "./provider.js";
export { type ThreadwireRuntimeOptions, useThreadwireRuntime } from "./runtime.js";
export { NEW_THREAD, type ThreadList, type ThreadListAdapter, type ThreadListOptions, useThreadList } from "./thread-list.js";
