// Formats times in the reader's language.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const AGO = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

export const clock = (time) => CLOCK.format(time);
export const day = (time) => DAY.format(time);

export function ago(time) {
  const seconds = Math.max(0, (Date.now() - time) / 1_000);
  const [unit, length] = UNITS.find(([, length]) => seconds >= length) ?? UNITS.at(-1);
  return AGO.format(-Math.floor(seconds / length), unit);
}
