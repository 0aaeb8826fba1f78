// Configures how the demo is served and built. It imports the client module from the folder next to it. It connects to the
// broker directly, not through Vite's proxy, as a page of another origin would; the broker allows that (`--origin`), and there is
// nothing in between that could buffer events.

import { defineConfig } from "vite";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  server: { port: 5173, strictPort: true, fs: { allow: [".", "../client"] } },
  build: { target: "es2022" },
});
