/** Inputs for the fields of a schema, and what was written in them. */

import type { Json, JsonObject } from "@threadwire/client";
import { type ReactNode, useId, useState } from "react";
import { type Field, initialText, readField } from "./schema-form.js";
import { Described } from "../ui/parts.js";

export interface Fields {
  readonly fields: readonly Field[];
  readonly texts: Readonly<Record<string, string>>;
  readonly errors: Readonly<Record<string, string>>;
  readonly set: (name: string, text: string) => void;
  /** The object that was written; null where something is wrong, which is then said at the field. */
  readonly read: () => JsonObject | null;
  readonly fail: (name: string, message: string) => void;
}

export function useFields(fields: readonly Field[]): Fields {
  const [texts, setTexts] = useState<Record<string, string>>(() => Object.fromEntries(fields.map((field) => [field.name, initialText(field)])));
  const [errors, setErrors] = useState<Record<string, string>>({});
  const fail = (name: string, message: string): void => setErrors((before) => ({ ...before, [name]: message }));
  return {
    fields,
    texts,
    errors,
    fail,
    set(name, text) {
      setTexts((before) => ({ ...before, [name]: text }));
      setErrors(({ [name]: _, ...rest }) => rest);
    },
    read() {
      const found: { [name: string]: Json } = {};
      const wrong: Record<string, string> = {};
      for (const field of fields) {
        const { value, error } = readField(field, texts[field.name] ?? "");
        if (error !== undefined) wrong[field.name] = error;
        else if (value !== undefined) found[field.name] = value;
      }
      setErrors(wrong);
      return Object.keys(wrong).length === 0 ? found : null;
    },
  };
}

export function SchemaFields({ fields }: { readonly fields: Fields }): ReactNode {
  return fields.fields.map((field) => (
    <FieldInput
      key={field.name}
      field={field}
      text={fields.texts[field.name] ?? ""}
      error={fields.errors[field.name]}
      onText={(text) => fields.set(field.name, text)}
    />
  ));
}

function FieldInput(props: { readonly field: Field; readonly text: string; readonly error: string | undefined; readonly onText: (text: string) => void }): ReactNode {
  const { field, text, error, onText } = props;
  const id = useId();
  const about = `${id}-about`;
  const common = { id, "aria-invalid": error !== undefined, "aria-describedby": about };
  return (
    <div className="field">
      <label htmlFor={id}>
        <code>{field.name}</code> {field.required ? null : <span className="faint">optional</span>}
      </label>
      {field.kind === "choice" ? (
        <select {...common} value={text} onChange={(event) => onText(event.target.value)}>
          {field.required ? null : <option value="null">—</option>}
          {field.choices.map((choice) => (
            <option key={JSON.stringify(choice)} value={JSON.stringify(choice)}>
              {typeof choice === "string" ? choice : JSON.stringify(choice)}
            </option>
          ))}
        </select>
      ) : field.kind === "boolean" ? (
        <select {...common} value={text} onChange={(event) => onText(event.target.value)}>
          <option value="true">true</option>
          <option value="false">false</option>
        </select>
      ) : field.kind === "json" ? (
        <textarea {...common} className="code" rows={4} value={text} spellCheck={false} onChange={(event) => onText(event.target.value)} />
      ) : (
        <input {...common} inputMode={field.kind === "text" ? "text" : "decimal"} value={text} onChange={(event) => onText(event.target.value)} />
      )}
      <div id={about}>
        {error === undefined ? null : <p className="field-error" role="alert">{field.name} {error}</p>}
        {field.description === undefined ? null : <Described text={field.description} />}
      </div>
    </div>
  );
}
