/** The recorder of the thread that is shown; it records whether or not anyone looks. */

import { useConnection, useThread } from "@threadwire/react";
import { type ReactNode, createContext, useContext, useEffect, useState, useSyncExternalStore } from "react";
import { traffic } from "../server.js";
import { Recorder } from "./recorder.js";

const Recording = createContext<Recorder | null>(null);

export const useRecorder = (): Recorder | null => useContext(Recording);

const nothing = (): (() => void) => () => {};
const zero = (): number => 0;

/** Changes with all that is recorded. */
export const useVersion = (recorder: Recorder | null): number =>
  useSyncExternalStore(recorder?.subscribe ?? nothing, recorder?.getVersion ?? zero);

export function RecordingProvider({ children }: { readonly children: ReactNode }): ReactNode {
  const connection = useConnection();
  const thread = useThread();
  const [recorder, setRecorder] = useState<Recorder | null>(null);
  useEffect(() => {
    if (connection === null || thread === null) return;
    const made = new Recorder(connection, thread, traffic.messages);
    setRecorder(made);
    return () => {
      made.stop();
      setRecorder(null);
    };
  }, [connection, thread]);
  return <Recording.Provider value={recorder}>{children}</Recording.Provider>;
}
