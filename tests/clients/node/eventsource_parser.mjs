// eventsource-parser parses text; its user must send requests and reconnect.
import { EventSourceParserStream } from "eventsource-parser/stream";

let lastId;

async function listen() {
  const headers = lastId ? { "Last-Event-ID": lastId } : {};
  const response = await fetch(process.argv[2], { headers });
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  for await (const event of events) {
    console.log(JSON.stringify([event.event ?? "message", event.id, event.data]));
    lastId = event.id;
    if (event.event === "end") process.exit();
  }
}

for (;;) {
  await listen().catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 50));
}
