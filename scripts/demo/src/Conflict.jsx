// What a window shows whose value was not stored, because another window had changed the same field: who was first, the
// difference, and the choice. It follows the field, so that nothing moves that the user is typing in.

import { useId, useRef, useState } from "react";

import { isNewer, timeOf } from "./broker.js";
import { difference } from "./difference.js";
import { describe } from "./fields.js";
import { keepMine, shown, takeTheirs } from "./form.js";
import { clock } from "./time.js";

export function Conflict({ field, state }) {
  const { id, conflict, stored } = state;
  const [isOpen, setOpen] = useState(false);
  const panel = useRef(null);
  const comparison = useId();
  const newest = isNewer(id, conflict) ? id : conflict;
  const decide = (act) => {
    // The buttons disappear. The user goes on where they were typing.
    panel.current.closest(".field").querySelector(".control :is(input:checked, input:not([type=radio]), textarea)")?.focus();
    act(field.name);
  };
  return (
    <div className="conflict" ref={panel} role="group" aria-label={`Two versions of ${field.label}`}>
      <p role="alert">
        {isNewer(newest, "0") ? `Another window saved this field first, at ${clock(timeOf(newest))}.` : "This field was erased in the meantime."}{" "}
        Your version is not stored yet.
      </p>
      {isOpen && <Difference id={comparison} field={field} mine={shown(state)} theirs={stored} />}
      <div className="choices">
        <button type="button" className="quiet" aria-expanded={isOpen} aria-controls={isOpen ? comparison : undefined} onClick={() => setOpen(!isOpen)}>
          {isOpen ? "Hide the difference" : "Show the difference"}
        </button>
        <button type="button" onClick={() => decide(keepMine)}>Keep mine</button>
        <button type="button" onClick={() => decide(takeTheirs)}>Take theirs</button>
      </div>
    </div>
  );
}

function Difference({ id, field, mine, theirs }) {
  const [mineParts, theirParts] = difference(String(describe(field, mine)), String(describe(field, theirs)));
  return (
    <dl id={id} className="difference">
      <dt>Yours</dt>
      <dd data-side="mine"><Parts parts={mineParts} /></dd>
      <dt>Theirs</dt>
      <dd data-side="theirs"><Parts parts={theirParts} /></dd>
    </dl>
  );
}

const Parts = ({ parts }) => parts.map(({ text, isShared }, at) => (isShared ? <span key={at}>{text}</span> : <mark key={at}>{text}</mark>));
