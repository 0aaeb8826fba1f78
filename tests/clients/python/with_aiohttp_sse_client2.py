"""aiohttp-sse-client2 comes back by itself where a stream ends, but where one breaks it is its user's business."""

import asyncio
import json
import sys

import aiohttp
from aiohttp_sse_client2.client import EventSource


async def listen():
    headers = {}
    while True:
        try:
            async with EventSource(sys.argv[1], headers=headers) as source:
                async for event in source:
                    print(json.dumps([event.type or "message", event.last_event_id, event.data]), flush=True)
                    headers = {"Last-Event-ID": event.last_event_id}
                    if event.type == "end":
                        return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)


asyncio.run(listen())
