"""Runs third-party clients against the broker over a connection that is cut, and checks what they report to their users.

Each client is a small program in python/ or node/ that gets a stream's URL, writes each event as one line of JSON,
[name, id, data], and exits at the event named `end`. It must report every event once and in order and nothing else:
neither the opening nor heartbeats nor half an event may become an event.
"""

import http.client
import json
import pathlib
import queue
import re
import socket
import subprocess
import sys
import threading
import time
import traceback

# A client fails if a step takes longer.
PATIENCE = 30
HERE = pathlib.Path(__file__).parent
# These strip whitespace from the data, contrary to the standard: more than one space before a line, and trailing newlines.
TRIMMING = {"with_aiohttp_sse_client2.py"}


class Broker:
    """The broker on a free port, with frequent heartbeats and a short reconnection time."""

    def __init__(self, binary):
        options = ["--no-auth", "--port", "0", "--data", ":memory:", "--heartbeat", "100ms", "--retry", "50ms"]
        self.process = subprocess.Popen([binary, *options], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise RuntimeError("the broker ended before it said where it listens")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {text}")
        return json.loads(text)

    def publish(self, topic, data, name=None, publisher_id=None):
        """Publishes an event and returns what a client must report."""
        fields = [("event", name), ("id", publisher_id), *(("data", line) for line in data.split("\n"))]
        body = "".join(f"{field}: {value}\n" for field, value in fields if value is not None)
        response = self.ask("POST", f"/publish/{topic}", body.encode())
        return [name or "message", publisher_id or response["id"], data]

    def wait_for_subscribers(self, count):
        begin = time.monotonic()
        while (seen := self.ask("GET", "/stats")["subscribers"]) != count:
            if time.monotonic() - begin > PATIENCE:
                raise RuntimeError(f"{seen} subscribers, not {count}")
            time.sleep(0.01)


class Line:
    """A TCP proxy that cuts its connections on command, immediately or in the middle of the next data."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        self.free = threading.Event()
        self.free.set()
        # How many more bytes are forwarded to the client.
        self.allowance = None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client = self.listener.accept()[0]
            self.free.wait()
            server = socket.create_connection(self.target)
            self.sockets += [client, server]
            threading.Thread(target=self.forward, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.forward, args=(server, client, True), daemon=True).start()

    def forward(self, source, sink, towards_client):
        try:
            while data := source.recv(65536):
                if towards_client and self.allowance is not None:
                    data = data[: self.allowance]
                    self.allowance -= len(data)
                sink.sendall(data)
                if towards_client and self.allowance == 0:
                    self.cut_and_hold()
        except OSError:
            pass
        for end in (source, sink):
            shut(end)

    def cut_and_hold(self):
        """Cuts all connections; new ones wait for `release`."""
        self.free.clear()
        while self.sockets:
            shut(self.sockets.pop())

    def release(self):
        self.allowance = None
        self.free.set()


def shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Client:
    """A client's process and what it has reported so far."""

    def __init__(self, command, is_trimming):
        self.is_trimming = is_trimming
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def must_see(self, events):
        for name, publisher_id, data in events:
            event = [name, publisher_id, trimmed(data) if self.is_trimming else data]
            try:
                seen = self.lines.get(timeout=PATIENCE)
            except queue.Empty:
                raise RuntimeError(f"never saw {event}") from None
            if seen != event:
                raise RuntimeError(f"saw {seen}, not {event}")

    def must_see_nothing(self, seconds):
        time.sleep(seconds)
        if not self.lines.empty():
            raise RuntimeError(f"saw {self.lines.get()}, which is not an event")


def trimmed(data):
    return "\n".join(line.lstrip(" ") for line in data.split("\n")).rstrip("\n")


def judge(broker, line, client, topic):
    """Tests a client: opening, heartbeats, events, cuts and the end."""
    broker.wait_for_subscribers(1)
    client.must_see_nothing(0.5)
    client.must_see(
        [
            broker.publish(topic, "plain"),
            broker.publish(topic, "several\n\n  lines: of\n: text\n"),
            broker.publish(topic, "named", name="greeting"),
            broker.publish(topic, "déjà vu ☂ 🦀 \u2028 one line", name="greeting"),
            broker.publish(topic, '{"json": [1, 2.5, null]}'),
        ]
    )
    away(broker, line, client, topic)
    client.must_see([broker.publish(topic, "with an id of its own", publisher_id="own/1")])
    away(broker, line, client, topic)
    half_an_event(broker, line, client, topic)
    client.must_see_nothing(0.3)
    client.must_see([broker.publish(topic, "good bye", name="end")])
    if client.process.wait(PATIENCE) != 0:
        raise RuntimeError(f"ended with {client.process.returncode}")
    client.must_see_nothing(0)


def away(broker, line, client, topic):
    """Cuts the client off, and publishes before it reconnects: it must resume after the last id it saw."""
    line.cut_and_hold()
    broker.wait_for_subscribers(0)
    missed = [broker.publish(topic, "while away"), broker.publish(topic, "and\nagain", name="greeting")]
    line.release()
    client.must_see(missed)
    broker.wait_for_subscribers(1)


def half_an_event(broker, line, client, topic):
    """Cuts in the middle of an event, which must then be reported once and completely."""
    line.allowance = 500
    event = broker.publish(topic, "\n".join("x" * 90 for _ in range(10)))
    broker.wait_for_subscribers(0)
    line.release()
    client.must_see([event])
    broker.wait_for_subscribers(1)


def programs(place):
    """Returns the command of every client by name."""
    python = {path.name: [sys.executable, path] for path in HERE.glob("python/*.py")}
    node = {path.name: ["node", place / "node" / path.name] for path in HERE.glob("node/*.mjs")}
    return dict(sorted((python | node).items()))


def passes(binary, name, command):
    broker, client = Broker(binary), None
    try:
        line = Line(broker.port)
        topic = "clients" + re.sub(r"\W|_", "", name)
        client = Client([*command, f"http://127.0.0.1:{line.port}/subscribe/{topic}"], name in TRIMMING)
        judge(broker, line, client, topic)
        print(f"{name} ... ok", flush=True)
        return True
    except Exception:
        print(f"{name} ... FAILED", flush=True)
        traceback.print_exc()
        return False
    finally:
        for process in (client and client.process, broker.process):
            if process:
                process.kill()
                process.wait()


def main(binary, place, *names):
    commands = programs(pathlib.Path(place).resolve())
    verdicts = [passes(binary, name, commands[name]) for name in names or commands]
    print(f"{verdicts.count(True)} passed, {verdicts.count(False)} failed")
    return not all(verdicts)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
