// The package eventsource implements the standard's EventSource for Node, and reconnects by itself.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
for (const name of ["message", "greeting", "gap", "end"]) {
  source.addEventListener(name, (event) => {
    console.log(JSON.stringify([event.type, event.lastEventId, event.data]));
    if (name === "end") source.close();
  });
}
