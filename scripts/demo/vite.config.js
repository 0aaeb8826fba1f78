// How the demo is served and built. It imports the client module from its neighbour folder, and speaks to the broker
// itself, not through Vite's proxy: that is how a page of another origin does it, the broker allows it (`--origin`), and
// nothing stands between that could hold events back.

import { defineConfig } from "vite";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  server: { port: 5173, strictPort: true, fs: { allow: [".", "../client"] } },
  build: { target: "es2022" },
});
