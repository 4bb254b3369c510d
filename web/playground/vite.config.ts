import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const SERVER = process.env["THREADWIRE_SERVER"] ?? "http://127.0.0.1:8000";
const ROUTES = ["/threads", "/schema", "/healthz", "/readyz"];

export default defineConfig({
  // Pages may be served below any path.
  base: "./",
  plugins: [react()],
  resolve: { conditions: ["source", "module", "browser", "development|production"] },
  build: {
    outDir: process.env["THREADWIRE_WEB_OUT"] ?? "dist",
    emptyOutDir: true,
    target: "es2022",
    license: { fileName: "third-party-licences.md" },
    chunkSizeWarningLimit: 900,
  },
  server: {
    proxy: {
      ...Object.fromEntries(ROUTES.map((route) => [route, SERVER])),
      "/ws": { target: SERVER, ws: true },
    },
  },
});
