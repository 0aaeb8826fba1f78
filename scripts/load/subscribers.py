#!/usr/bin/env python3
"""Holds ESKER_SUBSCRIBERS streams open, verifies that each of them gets every event once and in order, and reports the
latency of deliveries. Use another program to publish: publish.lua, publish.js, or your own application.

Usage: subscribers.py      set options as environment variables: ESKER_URL, ESKER_TOPIC, ESKER_SUBSCRIBERS,
ESKER_SUBSCRIBER_TOKEN, ESKER_QUIET and ESKER_PATIENCE (see README.md)

It uses HTTP/1.0 so that bodies are not chunked. Requires Python 3.9 and nothing else.
"""

import asyncio
import bisect
import collections
import math
import os
import random
import re
import resource
import signal
import ssl
import sys
import time
import urllib.parse

OPENING_AT_ONCE = 100
BUCKETS = 50  # per factor of e, for a resolution of 2 %


def setting(name, default):
    return os.environ.get(name) or default


def seconds(name, default):
    match = re.fullmatch(r"(\d+)(ms|s|m)", setting(name, default))
    if match is None:
        sys.exit(f"subscribers.py: {name} must be a duration such as 500ms, 3s or 1m")
    return int(match[1]) * {"ms": 0.001, "s": 1, "m": 60}[match[2]]


class Target:
    """The address of the streams, and the request for one."""

    def __init__(self):
        url = urllib.parse.urlsplit(setting("ESKER_URL", "http://127.0.0.1:3000"))
        if url.scheme not in ("http", "https") or not url.hostname:
            sys.exit("subscribers.py: ESKER_URL must be a URL such as https://events.example.com")
        self.host = url.hostname
        self.tls = ssl.create_default_context() if url.scheme == "https" else None
        self.port = url.port or (443 if self.tls else 80)
        token = os.environ.get("ESKER_SUBSCRIBER_TOKEN")
        path = f"{url.path.rstrip('/')}/subscribe/{setting('ESKER_TOPIC', 'loadtest')}?prime"
        authority = url.netloc.rpartition("@")[2]
        self.head = f"GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: text/event-stream\r\n"
        self.head += f"Authorization: Bearer {token}\r\n" if token else ""

    def request(self, position):
        resume = f"Last-Event-ID: {position}\r\n" if position else ""
        return f"{self.head}{resume}\r\n".encode()


class Latencies:
    """Latencies in microseconds, from the broker's clock in the event's id to this machine's clock."""

    def __init__(self):
        self.buckets = collections.Counter()
        self.least, self.most = math.inf, -math.inf

    def add(self, micros):
        self.least = min(self.least, micros)
        self.most = max(self.most, micros)
        self.buckets[int(math.log(max(micros, 1)) * BUCKETS)] += 1

    def at(self, share):
        """Returns this quantile of the latencies, in milliseconds."""
        left = share * sum(self.buckets.values())
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return min(math.exp((bucket + 1) / BUCKETS), self.most) / 1000
        return self.most / 1000

    def __str__(self):
        shares = "  ".join(f"p{share * 100:g} {self.at(share):.2f}" for share in (0.5, 0.9, 0.99, 0.999))
        return f"min {self.least / 1000:.2f}  {shares}  max {self.most / 1000:.2f}"


class Run:
    """State shared by all streams: the order of events that each must see, and counts of failures."""

    def __init__(self, target):
        self.target = target
        self.ids = []
        self.latencies = Latencies()
        self.deliveries = self.foreign = self.lost = self.disordered = self.gaps = self.ended = 0
        self.refusals = collections.Counter()
        self.complete = False  # all streams are open
        self.early = False  # events came before that
        self.latest = time.monotonic()

    def take(self, stream, number):
        """Processes an event with one of the broker's ids."""
        now = time.time()
        self.latest = time.monotonic()
        self.early = self.early or not self.complete
        self.deliveries += 1
        self.latencies.add(now * 1e6 - number)
        if number <= stream.position:
            self.disordered += 1
            return
        stream.position = number
        if not self.ids or number > self.ids[-1]:
            self.ids.append(number)
            found = len(self.ids) - 1
        elif stream.next is not None and self.ids[stream.next] == number:
            found = stream.next
        else:
            found = bisect.bisect_left(self.ids, number)
            if self.ids[found] != number:
                # Streams that are further along never got it; their next event will show that.
                self.ids.insert(found, number)
        if stream.next is not None:
            self.lost += max(found - stream.next, 0)
        stream.next = found + 1

    def missing(self, stream):
        """Returns the number of events that a stream has not received at the end."""
        if stream.next is None:
            return 0 if self.early else len(self.ids)
        return len(self.ids) - stream.next


class Stream:
    """A subscriber, with all its successive connections."""

    def __init__(self, run):
        self.run = run
        self.position = 0
        self.next = None  # the index of the event that must come next, after the first
        self.opened = self.connected = False

    async def live(self):
        """Reconnects whenever the stream ends, until the broker rejects it."""
        while await self.connect():
            self.run.ended += 1
            await asyncio.sleep(random.uniform(0.5, 1.5))

    async def connect(self):
        """Reads one connection to its end. Returns whether to reconnect."""
        target, loop = self.run.target, asyncio.get_running_loop()
        connection = Connection(self, loop.create_future())
        try:
            await loop.create_connection(lambda: connection, target.host, target.port, ssl=target.tls)
        except OSError as error:
            # After the first connection, the broker may be restarting.
            if not self.opened:
                self.run.refusals[f"no connection: {error.strerror or error}"] += 1
            return self.opened
        return await connection.end


class Connection(asyncio.Protocol):
    """One connection: the response head, then blocks of lines that end with a blank line."""

    def __init__(self, stream, end):
        self.stream, self.end = stream, end
        self.buffer = b""
        self.status = None

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.stream.run.target.request(self.stream.position))

    def data_received(self, data):
        self.buffer += data
        if self.status is None and not self.read_head():
            return
        *blocks, self.buffer = self.buffer.split(b"\n\n")
        for block in blocks:
            self.read_block(block)

    def read_head(self):
        """Reads the head. Returns whether the stream has started."""
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        self.status = words[1] if len(words) > 1 else "no status"
        if self.status != "200":
            self.stream.run.refusals[f"status {self.status}"] += 1
            self.transport.close()
            return False
        self.buffer = rest
        self.stream.opened = self.stream.connected = True
        return True

    def read_block(self, block):
        number, has_data = None, False
        for line in block.split(b"\n"):
            if line.startswith(b"id: "):
                number = line[4:]
            elif line.startswith(b"data:"):
                has_data = True
            elif line == b"event: gap":
                self.stream.run.gaps += 1
        if number is None:
            return
        if not number.isdigit():
            self.stream.run.foreign += 1
        elif has_data:
            self.stream.run.take(self.stream, int(number))
        else:
            self.stream.position = int(number)

    def connection_lost(self, error):
        self.stream.connected = False
        if self.status is None:
            self.stream.run.refusals["no response"] += 1
        if not self.end.done():
            self.end.set_result(self.status == "200" or (self.status is None and self.stream.opened))


def raise_descriptor_limit(count):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and count + 32 > hard:
        sys.exit(f"subscribers.py: the descriptor limit is {hard}; raise it (ulimit -Hn), or run several of these scripts")


async def open_all(run, count):
    """Opens the streams in batches, so that no backlog overflows. Returns the streams and their tasks."""
    streams, tasks = [], []
    while len(streams) < count:
        batch = [Stream(run) for _ in range(min(OPENING_AT_ONCE, count - len(streams)))]
        tasks_of_batch = [asyncio.ensure_future(stream.live()) for stream in batch]
        while not all(stream.opened or task.done() for stream, task in zip(batch, tasks_of_batch)):
            await asyncio.sleep(0.005)
        streams += batch
        tasks += tasks_of_batch
    return streams, tasks


async def listen(run, count):
    """Listens until events have stopped, none arrive at all, or the user presses Ctrl-C. Returns the streams."""
    quiet, patience = seconds("ESKER_QUIET", "3s"), seconds("ESKER_PATIENCE", "60s")
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    opening = asyncio.ensure_future(open_all(run, count))
    ends = {opening, asyncio.ensure_future(stopped.wait())}
    await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        sys.exit(f"subscribers.py: stopped, or {patience:g} s have passed, before all {count} streams were open")
    streams, tasks = opening.result()
    run.complete = True
    run.latest = time.monotonic()
    print(f"{sum(stream.connected for stream in streams)} streams are open", flush=True)
    while not stopped.is_set() and not all(task.done() for task in tasks):
        if time.monotonic() - run.latest > (quiet if run.deliveries else patience):
            break
        await asyncio.sleep(0.05)
    return streams


def report(run, streams):
    """Prints the results. Returns whether there were no failures."""
    print(f"{len(run.ids)} events, {run.deliveries} deliveries; streams that ended: {run.ended}")
    if run.deliveries:
        print(f"latency in ms, from the broker's clock to this one: {run.latencies}")
    if run.latencies.least < 0:
        print("note: the minimum is negative, so the two clocks differ by at least that much")
    if run.early:
        print("note: events arrived before all streams were open; events before a stream's first one are not counted as missing")
    if run.foreign:
        print(f"note: {run.foreign} deliveries had ids from publishers and were not verified")
    faults = {
        "lost": run.lost,
        "missing at the end": sum(map(run.missing, streams)),
        "streams not open at the end": sum(stream.opened and not stream.connected for stream in streams),
        "duplicated or out of order": run.disordered,
        "gap events": run.gaps,
        **run.refusals,
    }
    faults = [f"{what}: {count}" for what, count in faults.items() if count]
    if not run.deliveries:
        faults.append("no events arrived")
    print("FAILED: " + ", ".join(faults) if faults else "every stream got every event once and in order", flush=True)
    return not faults


def main():
    if sys.argv[1:]:
        is_asked = sys.argv[1] in ("-h", "--help")
        print(__doc__, file=sys.stdout if is_asked else sys.stderr)
        sys.exit(0 if is_asked else 2)
    count = setting("ESKER_SUBSCRIBERS", "100")
    if not count.isdigit() or int(count) < 1:
        sys.exit("subscribers.py: ESKER_SUBSCRIBERS must be a number of at least 1")
    raise_descriptor_limit(int(count))
    run = Run(Target())
    sys.exit(0 if report(run, asyncio.run(listen(run, int(count)))) else 1)


if __name__ == "__main__":
    main()
