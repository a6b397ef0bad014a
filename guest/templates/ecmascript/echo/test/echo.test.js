import assert from "node:assert/strict";
import { test } from "node:test";
import { rest, start } from "./running.js";

test("the service sends back what it gets, and ends after the peer", async () => {
  const service = await start();
  try {
    const client = service.connect();
    client.end("hi");
    assert.equal(await rest(client), "hi");
    assert.match(await service.line(), /^new connection 127\.0\.0\.1 \d+$/);
    assert.equal(await service.line(), "data: <Buffer 68 69>");
    assert.equal(await service.line(), "EOF.");
  } finally {
    await service.stop();
  }
});
