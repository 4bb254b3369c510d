/** Sends any command that the agent accepts, by a form made of its schema. */

import { type Json, type JsonObject, type Strategy, asErrorInfo } from "@threadwire/client";
import { useSendCommand } from "@threadwire/react";
import { type ReactNode, useEffect, useId, useMemo, useState } from "react";
import { connection, http } from "../server.js";
import { Described, Json as JsonView, Spinner } from "../ui/parts.js";
import { SchemaFields, useFields } from "./schema-fields.js";
import { type CommandForm, commandForms, isBuiltIn } from "./schema-form.js";

type Loaded = { readonly forms: readonly CommandForm[] } | { readonly error: string } | null;

export function Sender({ agent }: { readonly agent: string | undefined }): ReactNode {
  const [loaded, setLoaded] = useState<Loaded>(null);
  const [attempt, setAttempt] = useState(0);
  const [type, setType] = useState<string | null>(null);
  const id = useId();
  useEffect(() => {
    let left = false;
    setLoaded(null);
    http.schemas().then(
      (schemas) => {
        if (left) return;
        const schema = agent === undefined ? Object.values(schemas.commands)[0] : schemas.commands[agent];
        setLoaded({ forms: commandForms(schema) });
      },
      (error: unknown) => {
        if (!left) setLoaded({ error: asErrorInfo(error).message });
      },
    );
    return () => {
      left = true;
    };
  }, [agent, attempt]);
  if (loaded === null) {
    return (
      <div className="empty" role="status">
        <Spinner /> Reading the schema…
      </div>
    );
  }
  if ("error" in loaded) {
    return (
      <div className="empty" role="alert">
        <p>The schema can't be read: {loaded.error}</p>
        <button type="button" className="button" onClick={() => setAttempt(attempt + 1)}>
          Try again
        </button>
      </div>
    );
  }
  const form = loaded.forms.find((each) => each.type === type) ?? loaded.forms[0];
  if (form === undefined) {
    return (
      <div className="empty">
        <p>This agent takes no commands.</p>
      </div>
    );
  }
  const own = loaded.forms.filter((each) => !isBuiltIn(each.type));
  const builtIn = loaded.forms.filter((each) => isBuiltIn(each.type));
  return (
    <div className="sender">
      <div className="field">
        <label htmlFor={id}>Command</label>
        <select id={id} value={form.type} onChange={(event) => setType(event.target.value)}>
          {own.length > 0 ? (
            <optgroup label={`Of ${agent ?? "the agent"}`}>
              {own.map((each) => (
                <option key={each.type}>{each.type}</option>
              ))}
            </optgroup>
          ) : null}
          <optgroup label="Built in">
            {builtIn.map((each) => (
              <option key={each.type}>{each.type}</option>
            ))}
          </optgroup>
        </select>
        {form.description === undefined ? null : <Described text={form.description} />}
      </div>
      <CommandFields key={form.type} form={form} />
    </div>
  );
}

type Outcome = { readonly status: "sending" | "applied"; readonly seq?: number } | { readonly status: "refused"; readonly code: string; readonly message: string; readonly field: string | undefined };

function CommandFields({ form }: { readonly form: CommandForm }): ReactNode {
  const fields = useFields(form.fields);
  const send = useSendCommand();
  const [strategy, setStrategy] = useState("");
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [sent, setSent] = useState<JsonObject | null>(null);
  const id = useId();
  const strategies = useMemo(() => connection.getWelcome()?.strategies ?? [], []);
  const submit = async (): Promise<void> => {
    const value = fields.read();
    if (value === null) return;
    const command = { type: form.type, ...value } as { [key: string]: Json; type: string };
    setSent(command);
    setOutcome({ status: "sending" });
    try {
      const sending = send(command, strategy === "" ? {} : { strategy: strategy as Strategy });
      setOutcome({ status: "applied", seq: await sending.applied() });
    } catch (error) {
      const { code, message, field } = asErrorInfo(error);
      setOutcome({ status: "refused", code, message, field });
      const name = field?.split(".")[1];
      if (name !== undefined && form.fields.some((each) => each.name === name)) fields.fail(name, `: ${message}`);
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <SchemaFields fields={fields} />
      {form.fields.length === 0 ? <p className="faint">It has no fields.</p> : null}
      <div className="field">
        <label htmlFor={id}>
          While a run is active <span className="faint">strategy</span>
        </label>
        <select id={id} value={strategy} onChange={(event) => setStrategy(event.target.value)}>
          <option value="">the default</option>
          {strategies.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </div>
      <div className="buttons">
        <button type="submit" className="button primary" disabled={outcome?.status === "sending"}>
          Send {form.type}
        </button>
      </div>
      <div role="status" className="sender-outcome">
        {outcome?.status === "sending" ? <p><Spinner /> On its way…</p> : null}
        {outcome?.status === "applied" ? <p className="good">Applied at {outcome.seq}.</p> : null}
        {outcome?.status === "refused" ? (
          <p className="field-error">
            {outcome.message} <code>{outcome.code}</code> {outcome.field ? <code>{outcome.field}</code> : null}
          </p>
        ) : null}
        {sent === null ? null : (
          <details>
            <summary>What was sent</summary>
            <JsonView value={sent} />
          </details>
        )}
      </div>
    </form>
  );
}
