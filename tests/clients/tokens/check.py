"""Checks that the broker accepts the tokens of PyJWT and jose with their JWK Sets, whose keys are generated here.

The sets are rotated while a stream of each token is open: none is cut, and tokens of the previous set still work.
"""

import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

# A step fails if it takes longer.
PATIENCE = 30
HERE = pathlib.Path(__file__).parent
ISSUER, AUDIENCE, CLAIM = "https://id.example.com/", "https://events.example.com", "https://example.com/topics"
CLAIMS = {"iss": ISSUER, "aud": [AUDIENCE, f"{ISSUER}userinfo"], "sub": "auth0|5f7c", CLAIM: ["offline_access", "tok*"]}


class Broker:
    """The broker on a free port. Both roles use the same key file."""

    def __init__(self, binary, key_file):
        options = ["--port", "0", "--data", ":memory:", "--publisher-key", key_file, "--subscriber-key", key_file]
        rules = ["--issuer", ISSUER, "--audience", AUDIENCE, "--topics-claim", CLAIM]
        self.process = subprocess.Popen([binary, *options, *rules], stderr=subprocess.PIPE, text=True)
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", self.wait_for_log("listens on"))[1])

    def wait_for_log(self, part):
        for line in self.process.stderr:
            if part in line:
                return line
        raise RuntimeError(f"the broker ended without saying {part!r}")

    def reload(self):
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_log("reloaded")

    def send(self, method, path, token, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
        return connection.getresponse()

    def subscribe(self, token):
        response = self.send("GET", "/subscribe/tokens01", token)
        if response.status != 200:
            raise RuntimeError(f"a subscription was refused: {response.status} {response.read().decode()}")
        return response

    def publish(self, token, data):
        response = self.send("POST", "/publish/tokens01", token, f"data: {data}".encode())
        if response.status != 200:
            raise RuntimeError(f"a publish was refused: {response.status} {response.read().decode()}")


def next_data(stream):
    while line := stream.readline():
        if line.startswith(b"data: "):
            return line[6:].decode().rstrip("\n")
    raise RuntimeError("a stream ended")


def sign(command):
    return json.loads(subprocess.run([*command, json.dumps(CLAIMS)], check=True, stdout=subprocess.PIPE).stdout)


def check_forgeries(broker, tokens):
    """A token whose signature is another one's, or whose key is unknown, must be refused."""
    for name, token in tokens.items():
        header, claims, signature = token.split(".")
        others = [other.split(".")[2] for other in tokens.values() if other != token]
        for forged in [f"{header}.{claims}.{other}" for other in others] + [f"{header}.{claims[:-2]}AA.{signature}"]:
            response = broker.send("GET", "/subscribe/tokens01", forged)
            if response.status != 401:
                raise RuntimeError(f"a forged token of {name} was accepted: {response.status}")


def check(binary, node, directory):
    signed = [sign([sys.executable, HERE / "sign_with_pyjwt.py"]), sign(["node", node / "sign_with_jose.mjs"])]
    sets, tokens = [one["jwks"] for one in signed], [one["tokens"] for one in signed]
    key_file = directory / "jwks.json"
    key_file.write_text(json.dumps(sets[0]))
    broker = Broker(binary, str(key_file))
    try:
        streams = [broker.subscribe(token) for token in tokens[0].values()]
        check_forgeries(broker, tokens[0])
        unknown = broker.send("GET", "/subscribe/tokens01", next(iter(tokens[1].values())))
        if unknown.status != 401 or "`kid`" not in json.load(unknown)["detail"]:
            raise RuntimeError(f"a token of an unknown key was accepted: {unknown.status}")
        (directory / "jwks.json.previous").write_text(json.dumps(sets[0]))
        key_file.write_text(json.dumps(sets[1]))
        broker.reload()
        streams += [broker.subscribe(token) for both in tokens for token in both.values()]
        check_forgeries(broker, tokens[1])
        for both in tokens:
            for name, token in both.items():
                broker.publish(token, name)
                if {next_data(stream) for stream in streams} != {name}:
                    raise RuntimeError("a stream did not receive an event")
    finally:
        broker.process.kill()
        broker.process.wait()
    return [sorted(one) for one in tokens]


def main(binary, place):
    with tempfile.TemporaryDirectory() as directory:
        pyjwt, jose = check(binary, pathlib.Path(place).resolve() / "node", pathlib.Path(directory))
    print(f"tokens of PyJWT ({', '.join(pyjwt)}) and jose ({', '.join(jose)}) ... ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
