// The broker behind the proxy: what it counts, its end and its return, and a server that takes its place in the meantime.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";

import { eventually } from "./browser.mjs";

/** A broker that a test has started. */
export class Broker {
  #child;

  constructor({ address, pid, program, publisher }) {
    Object.assign(this, { address, pid, program });
    this.headers = { authorization: `Bearer ${publisher}` };
    [this.host, this.port] = address.split(":");
    // However this process exits.
    process.on("exit", () => this.#child?.kill());
  }

  async stats() {
    const response = await fetch(`http://${this.address}/stats`, { headers: this.headers });
    return response.json();
  }

  async hasSubscribers(count) {
    let last;
    const isSo = async () => {
      last = (await this.stats()).subscribers;
      return last === count;
    };
    await eventually(`${count} subscribers`, isSo).catch((error) => assert.fail(`${error.message} but ${last}`));
  }

  async insert(event) {
    const headers = { ...this.headers, "content-type": "application/json" };
    const body = JSON.stringify({ event, data: event });
    const response = await fetch(`http://${this.address}/insert`, { method: "POST", headers, body });
    assert.equal(response.status, 200);
  }

  /** Stops the broker, and waits until it refuses connections. */
  async stop() {
    process.kill(this.pid, "SIGTERM");
    await eventually("stopped", () => this.#refuses());
  }

  #refuses() {
    const socket = connect(this.port, this.host);
    return new Promise((resolve) => {
      socket.once("connect", () => resolve(false)).once("error", () => resolve(true));
    }).finally(() => socket.destroy());
  }

  /** Starts the broker again at the same address, with these arguments. */
  async start(...more) {
    await eventually("started", async () => {
      this.#child = spawn(this.program, ["--port", this.port, ...more], { stdio: "ignore" });
      this.pid = this.#child.pid;
      // Another program may have the port for a moment, as that of a connection.
      const ended = once(this.#child, "exit").then(() => "ended");
      const serves = eventually("listening", async () => this.#child.exitCode !== null || !(await this.#refuses()));
      return (await Promise.race([ended, serves])) !== "ended" && this.#child.exitCode === null;
    });
  }

  /** Takes the broker's place while it is stopped, and returns the requests that arrive while `during` runs. */
  async replaced(during) {
    const seen = [];
    const server = createServer((request, response) => {
      seen.push({ target: request.url, headers: request.headers, raw: request.rawHeaders });
      response.end("ok");
    });
    await eventually("listening", async () => {
      server.listen(this.port, this.host);
      return Promise.race([once(server, "listening"), once(server, "error").then(() => false)]);
    });
    await during();
    server.close();
    server.closeAllConnections();
    return seen;
  }
}
