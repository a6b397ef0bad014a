// Connections as objects, on the interfaces `halfopen:tcp/sockets` and `halfopen:tcp/events`, and
// what QuickJS lacks: `console` and UTF-8. The types are in halfopen.d.ts.

import sockets from "halfopen:tcp/sockets@0.1.0";
import environment from "wasi:cli/environment@0.2.0";
import wasiStdout from "wasi:cli/stdout@0.2.0";
import wasiStderr from "wasi:cli/stderr@0.2.0";

export function utf8(text) {
  const bytes = new Uint8Array(text.length * 3);
  let length = 0;
  for (const character of text) {
    let code = character.codePointAt(0);
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd; // half a pair
    if (code < 0x80) {
      bytes[length++] = code;
      continue;
    }
    const following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    const lead = [0, 0xc0, 0xe0, 0xf0][following];
    bytes[length++] = lead | (code >> (6 * following));
    for (let i = following - 1; i >= 0; i--) bytes[length++] = 0x80 | ((code >> (6 * i)) & 0x3f);
  }
  return bytes.subarray(0, length);
}

export const text = (bytes) => decode(bytes, () => "\ufffd");

// What is not UTF-8 becomes what `otherwise` returns.
function decode(bytes, otherwise) {
  let text = "";
  for (let i = 0; i < bytes.length; ) {
    const lead = bytes[i++];
    if (lead < 0x80) {
      text += String.fromCharCode(lead);
      continue;
    }
    const following = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    let code = lead & (0x3f >> following);
    let taken = 0;
    while (taken < following && (bytes[i] & 0xc0) === 0x80) {
      code = (code << 6) | (bytes[i++] & 0x3f);
      taken++;
    }
    const smallest = [0, 0x80, 0x800, 0x10000][following];
    const surrogate = code >= 0xd800 && code < 0xe000;
    const valid = lead >= 0xc2 && lead < 0xf5 && taken === following && code >= smallest;
    text += valid && !surrogate && code < 0x110000 ? String.fromCodePoint(code) : otherwise();
  }
  return text;
}

export class LineError extends Error {}

export class Lines {
  #limit;
  #partial = [];
  #skipping = false;

  constructor(limit = 8192) {
    this.#limit = limit;
  }

  push(chunk) {
    const lines = [];
    for (let start = 0; start < chunk.length; ) {
      const newline = chunk.indexOf(10, start);
      const end = newline < 0 ? chunk.length : newline;
      if (!this.#skipping) {
        // One byte more than there may be, and the `\r` before the end.
        const room = this.#limit + 2 - this.#partial.length;
        this.#partial.push(...chunk.subarray(start, Math.min(end, start + room)));
        const length = this.#partial.length - (this.#partial.at(-1) === 13 ? 1 : 0);
        if (length > this.#limit) {
          lines.push(new LineError(`line longer than ${this.#limit} bytes`));
          this.#partial = [];
          this.#skipping = true;
        }
      }
      if (newline >= 0) {
        if (!this.#skipping) lines.push(this.#take());
        this.#skipping = false;
      }
      start = end + 1;
    }
    return lines;
  }

  finish() {
    return this.#partial.length > 0 ? this.#take() : undefined;
  }

  #take() {
    const line = this.#partial;
    this.#partial = [];
    if (line.at(-1) === 13) line.pop();
    try {
      return decode(line, () => {
        throw new LineError("line is not UTF-8");
      });
    } catch (error) {
      return error;
    }
  }
}

// Each line is one call, so that lines of several instances do not mix. The streams exist only
// once the service runs, not while it is built.
const printer = (open) => {
  let stream;
  return (...values) => {
    stream ??= open();
    const line = utf8(values.map(shown).join(" ") + "\n");
    for (let i = 0; i < line.length; i += 4096) {
      stream.blockingWriteAndFlush(line.subarray(i, i + 4096));
    }
  };
};

function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack ?? ""}`.trim();
  try {
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  } catch {
    return String(value);
  }
}

const out = printer(() => wasiStdout.getStdout());
const err = printer(() => wasiStderr.getStderr());
globalThis.console ??= { log: out, info: out, debug: out, warn: err, error: err };

// The arguments of the service, which follow `--` on the command line.
export const args = () => environment.getArguments().slice(1);

const NAMES = {
  "access-denied": "EACCES",
  "not-supported": "EOPNOTSUPP",
  "invalid-argument": "EINVAL",
  "out-of-memory": "ENOMEM",
  "timeout": "ETIMEDOUT",
  "invalid-state": "EINVAL",
  "address-not-bindable": "EADDRNOTAVAIL",
  "address-in-use": "EADDRINUSE",
  "remote-unreachable": "EHOSTUNREACH",
  "connection-refused": "ECONNREFUSED",
  "connection-broken": "EPIPE",
  "connection-reset": "ECONNRESET",
  "connection-aborted": "ECONNABORTED",
  "datagram-too-large": "EMSGSIZE",
};

// `{ ip, port }`; undefined if the address is not known.
function address(get, socket) {
  let address;
  try {
    address = get(socket).val;
  } catch {
    return undefined;
  }
  const parts = address.address;
  const ip = parts.length === 4 ? parts.join(".") : ipv6(parts);
  return { ip, port: address.port };
}

// With the longest run of zeros as `::` (RFC 5952).
function ipv6(groups) {
  const hex = groups.map((group) => group.toString(16)).join(":");
  const runs = hex.match(/\b0(:0)+\b/g) ?? [];
  const longest = runs.reduce((longest, run) => (run.length > longest.length ? run : longest), "");
  if (longest === "") return hex;
  const at = hex.indexOf(longest);
  return `${hex.slice(0, at).replace(/:$/, "")}::${hex.slice(at + longest.length).replace(/^:/, "")}`;
}

export class Connection {
  #socket;
  #ended = false;

  constructor(socket) {
    this.#socket = socket;
  }

  onOpen() {}
  onData(_chunk) {}
  onEnd() {}
  onDrain() {}
  onTimeout() {}
  onError(_name) {}
  onClose(_hadError) {}

  write(data) {
    const written = sockets.write(this.#socket, typeof data === "string" ? utf8(data) : data);
    this.#ended ||= written === "ended";
    return written !== "ended";
  }

  get writable() {
    return !this.#ended;
  }

  end(data) {
    if (data !== undefined) this.write(data);
    this.#ended = true;
    sockets.end(this.#socket);
  }

  destroy() {
    this.#ended = true;
    sockets.destroy(this.#socket);
  }

  reset() {
    this.#ended = true;
    sockets.reset(this.#socket);
  }

  pause() {
    sockets.pause(this.#socket);
  }

  resume() {
    sockets.resume(this.#socket);
  }

  get unsent() {
    return Number(sockets.unsent(this.#socket));
  }

  allowHalfOpen(allow) {
    sockets.allowHalfOpen(this.#socket, allow);
  }

  setTimeout(milliseconds) {
    sockets.setTimeout(this.#socket, milliseconds);
  }

  get remoteAddress() {
    return address(sockets.remoteAddress, this.#socket)?.ip;
  }

  get remotePort() {
    return address(sockets.remoteAddress, this.#socket)?.port;
  }

  get localAddress() {
    return address(sockets.localAddress, this.#socket)?.ip;
  }

  get localPort() {
    return address(sockets.localAddress, this.#socket)?.port;
  }
}

// The export `events` of a service whose connections are of this class. What a handler throws is
// printed, and resets its own connection: the others go on.
export function serve(Class) {
  const open = new Map();
  const guard = (socket, handle) => {
    try {
      handle();
    } catch (error) {
      console.error("uncaught in an event:", error);
      sockets.reset(socket);
    }
  };
  return {
    connection(socket) {
      guard(socket, () => {
        const connection = new Class(socket);
        open.set(socket, connection);
        connection.onOpen();
      });
    },
    data: (socket, chunk) => guard(socket, () => open.get(socket).onData(chunk)),
    end: (socket) => guard(socket, () => open.get(socket).onEnd()),
    drain: (socket) => guard(socket, () => open.get(socket).onDrain()),
    timeout: (socket) => guard(socket, () => open.get(socket).onTimeout()),
    error: (socket, code) => guard(socket, () => open.get(socket).onError(NAMES[code.tag] ?? "EIO")),
    close(socket, hadError) {
      guard(socket, () => open.get(socket)?.onClose(hadError));
      open.delete(socket);
    },
  };
}
