import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';

import { Connection } from '../src/connection.js';

/** A socket whose counters are moved by hand. */
class Counters extends EventEmitter {
  connecting = false;
  bytesRead = 0;
  bytesWritten = 0;
  _handle = { writeQueueSize: 0 };
}

test('whatever moves starts the time anew: what comes, what goes, and what a slow peer takes', () => {
  const socket = new Counters();
  const connection = new Connection(/** @type {any} */ (null), 1, /** @type {any} */ (socket), null, null);
  connection.idleSince(0);
  assert.equal(connection.idleSince(10), 0);
  socket.bytesRead += 1;
  assert.equal(connection.idleSince(20), 20);
  assert.equal(connection.idleSince(30), 20);
  socket.bytesWritten += 1000;
  socket._handle.writeQueueSize = 1000;
  assert.equal(connection.idleSince(40), 40);
  socket._handle.writeQueueSize = 400;
  assert.equal(connection.idleSince(50), 50);
  assert.equal(connection.idleSince(60), 50);
});
