import { createRoot } from "react-dom/client";
import { App } from "./app.js";
import { Boundary } from "./ui/boundary.js";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/chat.css";
import "./styles/inspector.css";

const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <Boundary>
      <App />
    </Boundary>,
  );
}
