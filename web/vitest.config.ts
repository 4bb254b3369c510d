import { defineConfig } from "vitest/config";

export default defineConfig({
  // The packages' own sources, not what was built of them.
  resolve: { conditions: ["source"] },
  ssr: { resolve: { conditions: ["source"] } },
  test: {
    projects: [
      { extends: true, test: { name: "client", include: ["packages/client/tests/**/*.test.ts"], environment: "node" } },
      {
        extends: true,
        test: { name: "react", include: ["packages/react/tests/**/*.test.{ts,tsx}"], environment: "happy-dom" },
      },
      {
        extends: true,
        test: { name: "playground", include: ["playground/tests/**/*.test.{ts,tsx}"], environment: "happy-dom" },
      },
    ],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
