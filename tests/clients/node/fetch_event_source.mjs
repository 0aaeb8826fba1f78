// @microsoft/fetch-event-source comes back by itself. It is made for browsers: it sets timers by the window, and asks the document
// whether it is seen.
globalThis.window = globalThis;
globalThis.document = new EventTarget();
const { fetchEventSource } = await import("@microsoft/fetch-event-source");

const controller = new AbortController();
await fetchEventSource(process.argv[2], {
  signal: controller.signal,
  fetch: globalThis.fetch,
  openWhenHidden: true,
  onmessage(event) {
    console.log(JSON.stringify([event.event || "message", event.id, event.data]));
    if (event.event === "end") controller.abort();
  },
});
