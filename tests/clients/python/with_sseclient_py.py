"""sseclient-py reads a response of requests; its user must reconnect."""

import json
import sys
import time

import requests
import sseclient

last_id = None
while True:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    try:
        with requests.get(sys.argv[1], headers=headers, stream=True) as response:
            for event in sseclient.SSEClient(response).events():
                print(json.dumps([event.event, event.id, event.data]), flush=True)
                last_id = event.id
                if event.event == "end":
                    sys.exit()
    except requests.RequestException:
        time.sleep(0.05)
