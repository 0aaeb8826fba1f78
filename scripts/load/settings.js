// Shared by the k6 scripts: reads the settings from the environment, as listed in scripts/load/README.md.

function setting(name, value) {
  return __ENV[name] || value;
}

function number(name, value) {
  const given = Number(setting(name, value));
  if (!(given >= 1)) throw new Error(`${name} must be a number of at least 1`);
  return given;
}

function bearer(name) {
  return __ENV[name] ? { Authorization: `Bearer ${__ENV[name]}` } : {};
}

export const url = setting("ESKER_URL", "http://127.0.0.1:3000").replace(/\/+$/, "");
export const topics = setting("ESKER_TOPIC", "loadtest").split(",");
export const name = setting("ESKER_NAME", "loadtest");
export const names = number("ESKER_NAMES", 1000);
export const rate = number("ESKER_RATE", 100);
export const duration = setting("ESKER_DURATION", "30s");
export const subscribers = number("ESKER_SUBSCRIBERS", 100);
export const cut = number("ESKER_CUT_MS", 2000);
export const bytes = number("ESKER_BYTES", 100);
export const publisher = bearer("ESKER_PUBLISHER_TOKEN");
export const subscriber = bearer("ESKER_SUBSCRIBER_TOKEN");

// Nothing may fail or be skipped, and 99 % of the responses must arrive within ESKER_P99_MS.
export const strict = {
  checks: ["rate==1"],
  http_req_failed: ["rate==0"],
  http_req_duration: [`p(99)<${number("ESKER_P99_MS", 250)}`],
  dropped_iterations: ["count==0"],
};

// Starts `rate` iterations per second, whether or not earlier ones have finished.
export function openLoop(change) {
  const workers = { preAllocatedVUs: 100, maxVUs: 1000 };
  return { executor: "constant-arrival-rate", rate, timeUnit: "1s", duration, gracefulStop: "10s", ...workers, ...change };
}
