/** What is shown in the place of a page that can't be drawn, such as of a state that nobody foresaw. */

import { Component, type ReactNode } from "react";

interface State {
  readonly error: Error | null;
}

export class Boundary extends Component<{ readonly children: ReactNode }, State> {
  override state: State = { error: null };

  static getDerivedStateFromError(error: unknown): State {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }

  readonly #leave = (): void => {
    window.location.hash = "";
    this.setState({ error: null });
  };

  override render(): ReactNode {
    const { error } = this.state;
    if (error === null) return this.props.children;
    return (
      <main className="page empty" role="alert">
        <h1>This can't be shown</h1>
        <p>
          The page has stumbled: <code>{error.message}</code>. The thread is safe with the server.
        </p>
        <div className="buttons">
          <button type="button" className="button primary" onClick={() => window.location.reload()}>
            Reload
          </button>
          <button type="button" className="button" onClick={this.#leave}>
            Begin a new thread
          </button>
        </div>
      </main>
    );
  }
}
