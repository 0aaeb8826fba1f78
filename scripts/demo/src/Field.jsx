// One field of the form: its value, whether that is stored, and a button for its history.

import { Conflict } from "./Conflict.jsx";
import { isNewer, timeOf } from "./broker.js";
import { shown, write } from "./form.js";
import { clock } from "./time.js";

export function Field({ field, state, isChosen, onChoose }) {
  const Control = CONTROLS[field.kind];
  const isGroup = field.kind === "choice";
  const Label = isGroup ? "span" : "label";
  return (
    <div className="field" data-name={field.name} data-chosen={isChosen}>
      <div className="above">
        <Label id={`${field.name}.label`} {...(!isGroup && { htmlFor: field.name })}>
          {field.label}
        </Label>
        <Status {...state} />
        <button type="button" className="quiet" aria-pressed={isChosen} aria-label={`History of ${field.label}`} onClick={onChoose}>
          History
        </button>
      </div>
      <div className="control">
        {state.isForeign && <span className="arrival" key={state.id} />}
        <Control field={field} value={shown(state)} onWrite={(value) => write(field.name, value)} />
      </div>
      {state.conflict !== undefined && <Conflict field={field} state={state} />}
    </div>
  );
}

/** Shows whether the value is stored. */
function Status({ id, draft, problem, conflict, isForeign }) {
  if (conflict !== undefined) return <small className="save-state bad">not stored</small>;
  if (problem) return <small className="save-state bad" role="alert">not stored yet: {problem}</small>;
  if (draft !== undefined) return <small className="save-state">storing …</small>;
  if (!isNewer(id, "0")) return <small className="save-state">not set</small>;
  return <small className="save-state">{isForeign ? "changed elsewhere" : "stored"} {clock(timeOf(id))}</small>;
}

const CONTROLS = { text: Line, email: Line, note: Note, choice: Choice, slider: Slider, check: Check };

function Line({ field, value, onWrite }) {
  return (
    <input id={field.name} type={field.kind} value={value} placeholder={field.hint} autoComplete="off" spellCheck={false}
      onChange={(event) => onWrite(event.target.value)} />
  );
}

function Note({ field, value, onWrite }) {
  return <textarea id={field.name} rows={4} value={value} placeholder={field.hint} onChange={(event) => onWrite(event.target.value)} />;
}

function Choice({ field, value, onWrite }) {
  return (
    <div className="choice" role="radiogroup" aria-labelledby={`${field.name}.label`}>
      {field.options.map((option) => (
        <label key={option}>
          <input type="radio" name={field.name} value={option} checked={value === option} onChange={() => onWrite(option)} />
          <span>{option}</span>
        </label>
      ))}
    </div>
  );
}

function Slider({ field, value, onWrite }) {
  return (
    <div className="slider">
      <input id={field.name} type="range" min={field.min} max={field.max} value={value} onChange={(event) => onWrite(Number(event.target.value))} />
      <output htmlFor={field.name}>{value}</output>
    </div>
  );
}

function Check({ field, value, onWrite }) {
  return (
    <div className="check">
      <input id={field.name} type="checkbox" role="switch" checked={value} onChange={(event) => onWrite(event.target.checked)} />
      <span aria-hidden="true">{value ? "Yes, please" : "No"}</span>
    </div>
  );
}
