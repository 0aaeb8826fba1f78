// The fields of the form. Each field is a record of the broker, with the same name. Independent of their appearance.

/** How long the form waits for another change before it stores a value, in milliseconds. */
const PAUSE = { text: 350, email: 350, note: 350, slider: 150, choice: 0, check: 0 };

const field = (name, label, kind, more) => ({ name: `form.${name}`, label, kind, pause: PAUSE[kind], ...more });

export const FIELDS = [
  field("name", "Name", "text", { initial: "", hint: "Ada Lovelace" }),
  field("email", "E-mail", "email", { initial: "", hint: "ada@example.org" }),
  field("shirt", "T-shirt", "choice", { initial: "M", options: ["S", "M", "L", "XL"] }),
  field("nights", "Nights in the hotel", "slider", { initial: 2, min: 0, max: 7 }),
  field("vegetarian", "Vegetarian meals", "check", { initial: false }),
  field("note", "What should we know?", "note", { initial: "", hint: "I arrive late on Thursday …" }),
];

/** Returns a value that the field can show, because anyone can insert a record with its name and any data. */
export function fit(field, value) {
  if (field.kind === "check") return value === true;
  if (field.kind === "slider") return clamp(Number(value) || 0, field.min, field.max);
  if (field.kind === "choice") return field.options.includes(value) ? value : field.initial;
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Describes a value in words. */
export function describe(field, value) {
  if (field.kind === "check") return value ? "yes" : "no";
  if (field.kind === "slider") return value === 1 ? "1 night" : `${value} nights`;
  return value === "" ? "(empty)" : value;
}

const clamp = (number, min, max) => Math.min(max, Math.max(min, number));
