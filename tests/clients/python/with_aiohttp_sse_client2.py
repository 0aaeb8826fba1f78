"""aiohttp-sse-client2 reconnects by itself when a stream ends, but not when a connection breaks."""

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
