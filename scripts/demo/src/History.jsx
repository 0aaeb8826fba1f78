// All versions of one field as a timeline, the newest first. Each can be viewed, and restored as a new version.

import { useEffect, useRef, useState } from "react";

import { timeOf, versions } from "./broker.js";
import { describe, fit } from "./fields.js";
import { put } from "./form.js";
import { ago, clock, day } from "./time.js";

/** How many versions are shown at first, and added by each click. */
const STEP = 25;

export function History({ field, newest }) {
  const { list, problem } = useVersions(field.name, newest);
  const [limit, setLimit] = useState(STEP);
  const [looked, lookAt] = useState(null);
  const bringBack = (version) => {
    put(field.name, fit(field, version.value));
    lookAt(null);
  };
  const rest = list.length - limit;
  return (
    <section className="card history" aria-label={`History of ${field.label}`}>
      <h2>
        History <span>of {field.label}</span>
      </h2>
      <p className="count" role="status">{problem ? `The history can't be read: ${problem}` : summary(list)}</p>
      <ol>
        {list.slice(-limit).reverse().map((version, at) => (
          <Version key={version.id} field={field} version={version} isCurrent={at === 0} isOpen={looked === version.id}
            onToggle={() => lookAt(looked === version.id ? null : version.id)} onBringBack={() => bringBack(version)} />
        ))}
      </ol>
      {rest > 0 && (
        <button type="button" onClick={() => setLimit(limit + STEP)}>
          Show {Math.min(STEP, rest)} older of {rest}
        </button>
      )}
    </section>
  );
}

function Version({ field, version, isCurrent, isOpen, onToggle, onBringBack }) {
  const value = fit(field, version.value);
  const time = timeOf(version.id);
  return (
    <li data-current={isCurrent} data-open={isOpen}>
      <button type="button" className="look" aria-expanded={isOpen} onClick={onToggle}>
        <time dateTime={time.toISOString()} title={`${day(time)}, id ${version.id}`}>{clock(time)}</time>
        <span className="value" data-empty={value === ""}>{describe(field, value)}</span>
        {isCurrent && <em>now</em>}
      </button>
      {isOpen && (
        <div className="whole">
          <p className="value">{describe(field, value)}</p>
          <p className="when">{day(time)}, {ago(time)} · id {version.id}</p>
          {isCurrent ? <p className="when">This is the current value.</p> : <button type="button" onClick={onBringBack}>Restore</button>}
        </div>
      )}
    </li>
  );
}

/** Reads all versions, and new ones when they appear. */
function useVersions(name, newest) {
  const [found, setFound] = useState({ list: [], problem: null });
  const last = useRef("0");
  useEffect(() => {
    const control = new AbortController();
    const readOn = async () => {
      for await (const page of versions(name, last.current, control.signal)) {
        if (control.signal.aborted) return;
        last.current = page.at(-1)?.id ?? last.current;
        setFound(({ list }) => ({ list: [...list, ...page], problem: null }));
      }
    };
    readOn().catch((error) => control.signal.aborted || setFound(({ list }) => ({ list, problem: error.message })));
    return () => control.abort();
  }, [name, newest]);
  return found;
}

function summary(list) {
  if (list.length === 0) return "Nothing has been stored yet.";
  return `${list.length === 1 ? "One version" : `${list.length} versions`} since ${day(timeOf(list[0].id))}`;
}
