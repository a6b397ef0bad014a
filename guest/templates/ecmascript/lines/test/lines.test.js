import assert from "node:assert/strict";
import { test } from "node:test";
import { rest, start } from "./running.js";

test("each line has an answer", async () => {
  const service = await start();
  try {
    const client = service.connect();
    client.end("upper hello\nreverse abc\ncount four");
    assert.equal(await rest(client), "HELLO\ncba\n4\n");
  } finally {
    await service.stop();
  }
});
