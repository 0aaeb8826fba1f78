// The page: the form, the state of its connection, and the history of one of its fields.

import { useRef, useState, useSyncExternalStore } from "react";
import { flushSync } from "react-dom";

import { Field } from "./Field.jsx";
import { History } from "./History.jsx";
import { FIELDS } from "./fields.js";
import { snapshot, subscribe } from "./form.js";

const CONNECTION = {
  connecting: "Connecting …",
  open: "Live",
  waiting: "No connection, reconnecting …",
  idle: "Not connected",
  closed: "Not connected",
};
/** How this tab is connected: the tabs of one browser share a connection, because browsers allow only a few. */
const ROLE = {
  alone: "Connected to the broker",
  leader: "Connected to the broker for all your tabs of this page",
  follower: "Connected to the broker through another tab of this page",
};

export function App() {
  const { connection, role, fields } = useSyncExternalStore(subscribe, snapshot);
  const [chosen, choose] = useState(FIELDS[0].name);
  const history = useRef(null);
  const show = (name) => {
    flushSync(() => choose(name));
    // On a phone, the history is far below the field.
    history.current.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  const field = FIELDS.find(({ name }) => name === chosen);
  return (
    <div className="page">
      <header>
        <div>
          <h1>One form, many windows</h1>
          <p>Open this page in two windows. What you type in one appears in the other, and it is still there after a reload. If both change the same field at once, the second one chooses which text to keep.</p>
        </div>
        <p className="connection" data-state={connection} role="status">
          <strong>{CONNECTION[connection]}</strong>
          {connection === "open" && <span>{ROLE[role]}</span>}
        </p>
      </header>
      <main>
        <form className="card" aria-label="Registration" onSubmit={(event) => event.preventDefault()}>
          <h2>Registration</h2>
          {FIELDS.map((it) => (
            <Field key={it.name} field={it} state={fields[it.name]} isChosen={it.name === chosen} onChoose={() => show(it.name)} />
          ))}
        </form>
        <div ref={history} className="aside">
          <History key={chosen} field={field} newest={fields[chosen].id} />
        </div>
      </main>
    </div>
  );
}
