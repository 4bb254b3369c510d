/** The converter that takes messages as it finds them. */

import type { Json } from "@threadwire/client";
import { isObject } from "@threadwire/client";
import { type Converter, messagesUnder } from "./converter.js";
import { convertLangchain, joinsLangchain } from "./langchain.js";
import { convertMessage } from "./messages.js";

const isLangchain = (message: Json): boolean => isObject(message) && typeof message["type"] === "string" && message["role"] === undefined;

/** LangChain's messages and those of the form `{id, role, content}` under `key`, each by its own shape. */
export const stateConverter = (key = "messages"): Converter => ({
  messages: (state) => messagesUnder(state, key),
  joins: (message, first) => isLangchain(message) && isLangchain(first) && joinsLangchain(message, first),
  convert: (messages, context) =>
    messages[0] !== undefined && isLangchain(messages[0]) ? convertLangchain(messages, context) : convertMessage(messages, context),
});
