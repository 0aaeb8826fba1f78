"""httpx-sse reads one response; its user must reconnect."""

import json
import sys
import time

import httpx
import httpx_sse

last_id = ""
with httpx.Client(timeout=None) as client:
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with httpx_sse.connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                for event in source.iter_sse():
                    print(json.dumps([event.event, event.id, event.data]), flush=True)
                    last_id = event.id
                    if event.event == "end":
                        sys.exit()
        except httpx.TransportError:
            time.sleep(0.05)
