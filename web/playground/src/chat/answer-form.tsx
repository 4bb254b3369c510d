/** Asks for a value: by a JSON Schema where there is one, else in words or as JSON. */

import type { Json, JsonObject } from "@threadwire/client";
import { type ReactNode, useId, useState } from "react";
import { SchemaFields, useFields } from "../inspector/schema-fields.js";
import { fieldsOf } from "../inspector/schema-form.js";

export interface AnswerFormProps {
  readonly schema: JsonObject | undefined;
  readonly label: string;
  readonly onAnswer: (value: Json) => void;
}

export function AnswerForm({ schema, label, onAnswer }: AnswerFormProps): ReactNode {
  if (schema?.["type"] === "boolean") {
    return (
      <div className="buttons" role="group" aria-label={label}>
        <button type="button" className="button primary" onClick={() => onAnswer(true)}>
          Yes
        </button>
        <button type="button" className="button" onClick={() => onAnswer(false)}>
          No
        </button>
      </div>
    );
  }
  if (Array.isArray(schema?.["enum"])) {
    return (
      <div className="buttons" role="group" aria-label={label}>
        {(schema["enum"] as readonly Json[]).map((choice) => (
          <button key={JSON.stringify(choice)} type="button" className="button" onClick={() => onAnswer(choice)}>
            {typeof choice === "string" ? choice : JSON.stringify(choice)}
          </button>
        ))}
      </div>
    );
  }
  if (schema?.["type"] === "object" && schema["properties"] !== undefined) return <ObjectForm schema={schema} label={label} onAnswer={onAnswer} />;
  return <FreeForm label={label} onAnswer={onAnswer} wantsText={schema?.["type"] === "string"} />;
}

function ObjectForm({ schema, label, onAnswer }: { readonly schema: JsonObject; readonly label: string; readonly onAnswer: (value: Json) => void }): ReactNode {
  const fields = useFields(fieldsOf(schema, schema));
  return (
    <form
      aria-label={label}
      onSubmit={(event) => {
        event.preventDefault();
        const value = fields.read();
        if (value !== null) onAnswer(value);
      }}
    >
      <SchemaFields fields={fields} />
      <button type="submit" className="button primary">
        Answer
      </button>
    </form>
  );
}

function FreeForm({ label, onAnswer, wantsText }: { readonly label: string; readonly onAnswer: (value: Json) => void; readonly wantsText: boolean }): ReactNode {
  const [text, setText] = useState("");
  const [asJson, setAsJson] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const field = useId();
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (!asJson) return onAnswer(text);
        try {
          onAnswer(JSON.parse(text) as Json);
        } catch {
          setError("This is no JSON.");
        }
      }}
    >
      <label htmlFor={field}>{label}</label>
      <textarea id={field} rows={2} className={asJson ? "code" : ""} value={text} aria-invalid={error !== null} onChange={(event) => { setText(event.target.value); setError(null); }} />
      {error === null ? null : <p className="field-error" role="alert">{error}</p>}
      <div className="buttons">
        <button type="submit" className="button primary">
          Answer
        </button>
        {wantsText ? null : (
          <label className="check">
            <input type="checkbox" checked={asJson} onChange={(event) => setAsJson(event.target.checked)} /> as JSON
          </label>
        )}
      </div>
    </form>
  );
}
