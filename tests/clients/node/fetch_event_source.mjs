// @microsoft/fetch-event-source reconnects by itself. It is made for browsers: it uses the window's timers, and the document's
// visibility.
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
