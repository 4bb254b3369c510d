/** What a JSON Schema of a command asks for, as the fields of a form. */

import { type Json, type JsonObject, isObject } from "@threadwire/client";

export interface Field {
  readonly name: string;
  /** `json` is what has no input of its own: it is written as JSON. */
  readonly kind: "text" | "number" | "integer" | "boolean" | "choice" | "json";
  readonly required: boolean;
  /** Whether null is allowed. */
  readonly nullable: boolean;
  readonly choices: readonly Json[];
  readonly fallback: Json | undefined;
  readonly description: string | undefined;
  readonly schema: JsonObject;
}
export interface CommandForm {
  readonly type: string;
  readonly description: string | undefined;
  readonly fields: readonly Field[];
}

const BUILT_IN: ReadonlySet<string> = new Set(["add-message", "add-tool-result", "resume", "regenerate", "switch-branch"]);

/** The forms of all commands of an agent, its own ones first. */
export function commandForms(schema: JsonObject | undefined): CommandForm[] {
  if (schema === undefined) return [];
  const options = Array.isArray(schema["anyOf"]) ? (schema["anyOf"] as readonly Json[]) : [schema];
  const forms = options.flatMap((option): CommandForm[] => {
    const resolved = resolve(option, schema);
    const properties = resolved && isObject(resolved["properties"]) ? resolved["properties"] : undefined;
    const tag = properties && isObject(properties["type"]) ? properties["type"] : undefined;
    const type = tag?.["const"] ?? (Array.isArray(tag?.["enum"]) ? (tag["enum"] as readonly Json[])[0] : undefined);
    if (resolved === undefined || properties === undefined || typeof type !== "string") return [];
    const fields = fieldsOf(resolved, schema).filter((field) => field.name !== "type");
    return [{ type, description: textOf(resolved["description"]), fields }];
  });
  return forms.sort((a, b) => Number(BUILT_IN.has(a.type)) - Number(BUILT_IN.has(b.type)));
}

/** The fields of an object's schema; `root` is where references lead. */
export function fieldsOf(schema: JsonObject, root: JsonObject): Field[] {
  const required = new Set(Array.isArray(schema["required"]) ? (schema["required"] as readonly Json[]) : []);
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  return Object.entries(properties).map(([name, property]) => fieldOf(name, property, root, required.has(name)));
}

export const isBuiltIn = (type: string): boolean => BUILT_IN.has(type);

function resolve(schema: Json | undefined, root: JsonObject): JsonObject | undefined {
  for (let hops = 0; hops < 20 && isObject(schema); hops++) {
    const ref = schema["$ref"];
    if (typeof ref !== "string") return schema;
    let target: Json | undefined = root;
    for (const key of ref.replace(/^#\/?/, "").split("/")) {
      target = isObject(target) ? target[key.replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
    }
    schema = target;
  }
  return undefined;
}

function fieldOf(name: string, given: Json, root: JsonObject, required: boolean): Field {
  const outer = resolve(given, root) ?? {};
  const branches = Array.isArray(outer["anyOf"]) ? (outer["anyOf"] as readonly Json[]).map((each) => resolve(each, root) ?? {}) : [outer];
  const nullable = branches.some((each) => each["type"] === "null");
  const rest = branches.filter((each) => each["type"] !== "null");
  const schema = rest.length === 1 ? rest[0]! : outer;
  const choices = Array.isArray(schema["enum"]) ? (schema["enum"] as readonly Json[]) : [];
  return {
    name,
    kind: rest.length === 1 ? kindOf(schema, choices) : "json",
    required,
    nullable,
    choices,
    fallback: outer["default"] ?? schema["default"],
    description: textOf(outer["description"]) ?? textOf(schema["description"]),
    schema,
  };
}

function kindOf(schema: JsonObject, choices: readonly Json[]): Field["kind"] {
  if (choices.length > 0) return "choice";
  switch (schema["type"]) {
    case "string":
      return "text";
    case "number":
      return "number";
    case "integer":
      return "integer";
    case "boolean":
      return "boolean";
    default:
      return "json";
  }
}

const textOf = (value: Json | undefined): string | undefined => (typeof value === "string" ? value : undefined);

/** What stands in an input before anybody has touched it. */
export function initialText(field: Field): string {
  if (field.kind === "boolean") return field.fallback === true ? "true" : "false";
  if (field.kind === "choice") return JSON.stringify(field.fallback ?? (field.required ? field.choices[0] : null) ?? null);
  if (field.fallback != null && field.kind !== "json") return String(field.fallback);
  if (field.kind === "json" && field.required) return field.schema["type"] === "array" ? "[]" : "{}";
  return "";
}

/** The value that was written; an error as text. Undefined leaves the field out. */
export function readField(field: Field, text: string): { readonly value?: Json; readonly error?: string } {
  if (text === "" && (!field.required || field.nullable)) return field.required ? { value: null } : {};
  switch (field.kind) {
    case "text": {
      const least = field.schema["minLength"];
      const most = field.schema["maxLength"];
      if (typeof least === "number" && text.length < least) return { error: least === 1 ? "is missing" : `needs ${least} characters` };
      if (typeof most === "number" && text.length > most) return { error: `is longer than ${most} characters` };
      return { value: text };
    }
    case "number":
    case "integer": {
      const value = Number(text);
      if (text.trim() === "" || !Number.isFinite(value)) return { error: "is no number" };
      if (field.kind === "integer" && !Number.isSafeInteger(value)) return { error: "is no whole number" };
      return { value };
    }
    case "boolean":
      return { value: text === "true" };
    case "choice":
    case "json":
      if (text === "") return { error: "is missing" };
      try {
        return { value: JSON.parse(text) as Json };
      } catch {
        return { error: "is no JSON" };
      }
  }
}
