/** The converter that takes messages as it finds them. */

import type { Json } from "@threadwire/client";
import { isObject } from "@threadwire/client";
import { type Converter, graphBranches, messagesUnder } from "./converter.js";
import { convertLangchain, joinsLangchain } from "./langchain.js";
import { convertMessage, messageBranches } from "./messages.js";

const isLangchain = (message: Json): boolean => isObject(message) && typeof message["type"] === "string" && message["role"] === undefined;

/** LangChain's messages and those of the form `{id, role, content}` under `key`, each by its own shape. */
export const stateConverter = (key = "messages"): Converter => ({
  messages: (state) => messagesUnder(state, key),
  joins: (message, first) => isLangchain(message) && isLangchain(first) && joinsLangchain(message, first),
  convert: (messages, context) =>
    messages[0] !== undefined && isLangchain(messages[0]) ? convertLangchain(messages, context) : convertMessage(messages, context),
  branches: (state) => {
    const first = messagesUnder(state, key)[0];
    return first !== undefined && isLangchain(first) ? graphBranches(state) : messageBranches(state, key);
  },
});
