import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { start } from "./running.js";

// What has arrived, once it ends with this text.
async function until(client, ending) {
  let got = "";
  while (!got.endsWith(ending)) {
    const chunk = client.read();
    if (chunk === null) await once(client, "readable");
    else got += chunk;
  }
  return got;
}

test("everybody hears the others", async () => {
  const service = await start();
  try {
    const [ann, bob] = [service.connect(), service.connect()];
    ann.write("ann\n");
    await until(ann, "/quit.\n");
    bob.write("bob\n");
    await until(bob, "/quit.\n");
    assert.equal(await until(ann, "here\n"), "* bob is here\n");
    bob.write("hello\n");
    assert.equal(await until(ann, "hello\n"), "bob: hello\n");
    bob.end();
    assert.equal(await until(ann, "left\n"), "* bob has left\n");
    ann.destroy();
  } finally {
    await service.stop();
  }
});
