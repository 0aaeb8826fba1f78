// Entry point: keeps the form subscribed while the page is open, and sends the last changes when it closes.

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
