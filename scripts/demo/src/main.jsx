// Where the page begins: the form listens as long as the page is there, and what is typed last is sent when it goes.

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./App.jsx";
import { flush, start } from "./form.js";
import "./style.css";

const stop = start();
addEventListener("pagehide", flush);
import.meta.hot?.dispose(stop);
import.meta.hot?.accept(() => location.reload());

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
