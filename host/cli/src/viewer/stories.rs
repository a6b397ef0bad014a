//! Streams that the tests of this module watch: what a server says of typical connections.

/// A client that finishes sending, and then gets its answer.
pub(crate) const HALF_OPEN: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["digest"], "payload": true, "may_write": true}
{"event": "accepted", "seq": 1, "at": 1.0, "id": 1, "peer": "127.0.0.1:40000", "local": "127.0.0.1:1234", "service": "digest"}
{"event": "served", "seq": 2, "at": 1.00021, "id": 1, "instance": 1}
{"event": "data", "seq": 3, "at": 1.00035, "id": 1, "dir": "in", "length": 5, "offset": 0, "payload": "aGVsbG8="}
{"event": "fin", "seq": 4, "at": 2.5, "id": 1, "dir": "in"}
{"event": "data", "seq": 5, "at": 2.50042, "id": 1, "dir": "out", "length": 82, "offset": 0, "payload": "NSBieXRlcywgU0hBLTI1NiAyY2YyNGRiYTVmYjBhMzBlMjZlODNiMmFjNWI5ZTI5ZTFiMTYxZTVjMWZhNzQyNWU3MzA0MzM2", "cut": true}
{"event": "fin", "seq": 6, "at": 2.50051, "id": 1, "dir": "out"}
{"event": "closed", "seq": 7, "at": 2.5006, "id": 1, "outcome": "fin", "first": "peer", "received": 5, "sent": 82, "age": 1.5006, "cause": "both sides have finished"}
"##;

/// The same, before the answer; without bytes, to a watcher that may only look.
pub(crate) const STILL_OPEN: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["digest"], "payload": false, "may_write": false}
{"event": "accepted", "seq": 1, "at": 1.0, "id": 1, "peer": "127.0.0.1:40000", "local": "127.0.0.1:1234", "service": "digest"}
{"event": "served", "seq": 2, "at": 1.00021, "id": 1, "instance": 1}
{"event": "data", "seq": 3, "at": 1.00035, "id": 1, "dir": "in", "length": 5, "offset": 0}
{"event": "fin", "seq": 4, "at": 2.5, "id": 1, "dir": "in"}
"##;

/// A service that finishes sending first, and still receives.
pub(crate) const FIN_WAIT: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["whoami"], "payload": false, "may_write": false}
{"event": "accepted", "seq": 1, "at": 1.0, "id": 1, "peer": "127.0.0.1:40000", "local": "127.0.0.1:1234", "service": "whoami"}
{"event": "served", "seq": 2, "at": 1.00021, "id": 1, "instance": 1}
{"event": "data", "seq": 3, "at": 1.00035, "id": 1, "dir": "out", "length": 16, "offset": 0}
{"event": "fin", "seq": 4, "at": 1.00042, "id": 1, "dir": "out"}
{"event": "acknowledged", "seq": 5, "at": 1.25, "id": 1}
{"event": "data", "seq": 6, "at": 2.0, "id": 1, "dir": "in", "length": 4, "offset": 0}
"##;

/// A peer that resets, over TLS.
pub(crate) const RESET: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["echo"], "payload": true, "may_write": true}
{"event": "accepted", "seq": 1, "at": 3.0, "id": 2, "peer": "127.0.0.1:40001", "local": "127.0.0.1:1234", "service": "echo"}
{"event": "tls", "seq": 2, "at": 3.0001, "id": 2, "version": "1.3", "name": "echo.example", "alpn": "h2"}
{"event": "served", "seq": 3, "at": 3.0002, "id": 2, "instance": 2}
{"event": "data", "seq": 4, "at": 3.0003, "id": 2, "dir": "in", "length": 7, "offset": 0, "payload": "R0VUIC8NCg=="}
{"event": "rst", "seq": 5, "at": 3.2, "id": 2, "dir": "in"}
{"event": "error", "seq": 6, "at": 3.2001, "id": 2, "code": "connection-reset", "message": "the peer reset the connection"}
{"event": "closed", "seq": 7, "at": 3.2002, "id": 2, "outcome": "reset-by-peer", "first": "peer", "received": 7, "sent": 0, "age": 0.2002, "cause": "the peer sent RST"}
"##;

/// A connection that is idle for too long.
pub(crate) const LIMIT: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["kv"], "payload": true, "may_write": true}
{"event": "accepted", "seq": 1, "at": 10.0, "id": 3, "peer": "127.0.0.1:40002", "local": "127.0.0.1:1234", "service": "kv"}
{"event": "served", "seq": 2, "at": 10.0002, "id": 3, "instance": 3}
{"event": "data", "seq": 3, "at": 10.001, "id": 3, "dir": "in", "length": 6, "offset": 0, "payload": "UElORw0K"}
{"event": "data", "seq": 4, "at": 10.0012, "id": 3, "dir": "out", "length": 7, "offset": 0, "payload": "K1BPTkcNCg=="}
{"event": "limit", "seq": 5, "at": 40.0013, "id": 3, "limit": "idle"}
{"event": "rst", "seq": 6, "at": 40.0014, "id": 3, "dir": "out"}
{"event": "closed", "seq": 7, "at": 40.0015, "id": 3, "outcome": "limit-idle", "first": "service", "received": 6, "sent": 7, "age": 30.0015, "cause": "nothing was sent or received for 30 s, the limit of --idle-timeout"}
"##;

/// A peer that does not read for a while, and a service that pauses.
pub(crate) const BLOCKED: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["kv"], "payload": false, "may_write": true}
{"event": "accepted", "seq": 1, "at": 5.0, "id": 4, "peer": "127.0.0.1:40003", "local": "127.0.0.1:1234", "service": "kv"}
{"event": "served", "seq": 2, "at": 5.0001, "id": 4, "instance": 1}
{"event": "data", "seq": 3, "at": 5.001, "id": 4, "dir": "in", "length": 27, "offset": 0}
{"event": "data", "seq": 4, "at": 5.002, "id": 4, "dir": "out", "length": 65536, "offset": 0}
{"event": "data", "seq": 5, "at": 5.0021, "id": 4, "dir": "out", "length": 2531328, "offset": 65536}
{"event": "blocked", "seq": 6, "at": 5.0022, "id": 4, "dir": "out", "by": "peer"}
{"event": "paused", "seq": 7, "at": 5.003, "id": 4}
{"event": "unblocked", "seq": 8, "at": 8.5, "id": 4, "dir": "out", "by": "peer"}
{"event": "resumed", "seq": 9, "at": 8.5001, "id": 4}
{"event": "data", "seq": 10, "at": 8.5002, "id": 4, "dir": "out", "length": 1048576, "offset": 2596864}
{"event": "blocked", "seq": 11, "at": 8.6, "id": 4, "dir": "in", "by": "service"}
"##;

/// A service that traps.
pub(crate) const TRAP: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["chat"], "payload": false, "may_write": true}
{"event": "accepted", "seq": 1, "at": 7.0, "id": 5, "peer": "127.0.0.1:40004", "local": "127.0.0.1:1234", "service": "chat"}
{"event": "served", "seq": 2, "at": 7.0001, "id": 5, "instance": 9}
{"event": "data", "seq": 3, "at": 7.001, "id": 5, "dir": "in", "length": 300, "offset": 0}
{"event": "instance", "seq": 4, "at": 7.002, "instance": 9, "service": "chat", "what": "trapped", "message": "wasm trap: wasm `unreachable` instruction executed\n    0: chat!handle"}
{"event": "rst", "seq": 5, "at": 7.0021, "id": 5, "dir": "out"}
{"event": "closed", "seq": 6, "at": 7.0022, "id": 5, "outcome": "trapped", "first": "service", "received": 300, "sent": 0, "age": 0.0022, "cause": "the instance that served it trapped: wasm `unreachable` instruction executed"}
"##;

/// Connections in several states.
pub(crate) const MANY: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["echo", "kv", "guard"], "payload": true, "may_write": true}
{"event": "accepted", "seq": 1, "at": 1.0, "id": 1, "peer": "192.0.2.7:50001", "local": "127.0.0.1:1234", "service": "echo"}
{"event": "served", "seq": 2, "at": 1.0, "id": 1, "instance": 1}
{"event": "data", "seq": 3, "at": 1.1, "id": 1, "dir": "in", "length": 1200, "offset": 0}
{"event": "data", "seq": 4, "at": 1.2, "id": 1, "dir": "out", "length": 1200, "offset": 0}
{"event": "accepted", "seq": 5, "at": 2.0, "id": 2, "peer": "192.0.2.8:50002", "local": "127.0.0.1:1234", "service": "kv"}
{"event": "served", "seq": 6, "at": 2.0, "id": 2, "instance": 2}
{"event": "data", "seq": 7, "at": 2.1, "id": 2, "dir": "in", "length": 52, "offset": 0}
{"event": "fin", "seq": 8, "at": 2.2, "id": 2, "dir": "in"}
{"event": "accepted", "seq": 9, "at": 3.0, "id": 3, "peer": "192.0.2.8:50003", "local": "127.0.0.1:1234", "service": "kv"}
{"event": "served", "seq": 10, "at": 3.0, "id": 3, "instance": 2}
{"event": "data", "seq": 11, "at": 3.1, "id": 3, "dir": "out", "length": 5242880, "offset": 0}
{"event": "blocked", "seq": 12, "at": 3.2, "id": 3, "dir": "out", "by": "peer"}
{"event": "accepted", "seq": 13, "at": 4.0, "id": 4, "peer": "[2001:db8::7]:50004", "local": "[::1]:1234", "service": "guard"}
{"event": "served", "seq": 14, "at": 4.0, "id": 4, "instance": 3}
{"event": "fin", "seq": 15, "at": 4.2, "id": 4, "dir": "out"}
{"event": "acknowledged", "seq": 16, "at": 4.4, "id": 4}
{"event": "accepted", "seq": 17, "at": 5.0, "id": 5, "peer": "203.0.113.9:50005", "local": "127.0.0.1:1234", "service": "echo"}
{"event": "served", "seq": 18, "at": 5.0, "id": 5, "instance": 4}
{"event": "data", "seq": 19, "at": 5.1, "id": 5, "dir": "in", "length": 9, "offset": 0}
{"event": "rst", "seq": 20, "at": 5.2, "id": 5, "dir": "in"}
{"event": "closed", "seq": 21, "at": 5.2, "id": 5, "outcome": "reset-by-peer", "first": "peer", "received": 9, "sent": 0, "age": 0.2, "cause": "the peer sent RST"}
{"event": "accepted", "seq": 22, "at": 6.0, "id": 6, "peer": "203.0.113.9:50006", "local": "127.0.0.1:1234", "service": "echo"}
{"event": "closed", "seq": 23, "at": 6.0, "id": 6, "outcome": "refused-peer-limit", "first": null, "received": 0, "sent": 0, "age": 0.0001, "cause": "the peer has as many connections as --max-connections-per-peer allows"}
{"event": "accepted", "seq": 24, "at": 7.0, "id": 7, "peer": "198.51.100.4:50007", "local": "127.0.0.1:1234", "service": "kv"}
{"event": "served", "seq": 25, "at": 7.0, "id": 7, "instance": 2}
{"event": "data", "seq": 26, "at": 7.1, "id": 7, "dir": "in", "length": 30, "offset": 0}
{"event": "data", "seq": 27, "at": 7.2, "id": 7, "dir": "out", "length": 30, "offset": 0}
{"event": "limit", "seq": 28, "at": 37.3, "id": 7, "limit": "idle"}
{"event": "rst", "seq": 29, "at": 37.3, "id": 7, "dir": "out"}
{"event": "closed", "seq": 30, "at": 37.3, "id": 7, "outcome": "limit-idle", "first": "service", "received": 30, "sent": 30, "age": 30.3, "cause": "nothing was sent or received for 30 s"}
{"event": "accepted", "seq": 31, "at": 90.0, "id": 8, "peer": "192.0.2.7:50008", "local": "127.0.0.1:1234", "service": "echo"}
{"event": "served", "seq": 32, "at": 90.0, "id": 8, "instance": 5}
{"event": "lost", "count": 17}
"##;

/// Text from peers and guests that would drive a terminal.
pub(crate) const HOSTILE: &str = r##"{"event": "hello", "at": 0.5, "version": 1, "pid": 4711, "began": "2026-11-26T12:00:00Z", "services": ["echo"], "payload": true, "may_write": true}
{"event": "accepted", "seq": 1, "at": 1.0, "id": 1, "peer": "127.0.0.1:40000", "local": "127.0.0.1:1234", "service": "echo\u001b[31m"}
{"event": "tls", "seq": 2, "at": 1.1, "id": 1, "version": "1.3", "name": "\u001b]0;owned\u0007\u202e", "alpn": "\u009b2J"}
{"event": "data", "seq": 3, "at": 1.2, "id": 1, "dir": "in", "length": 23, "offset": 0, "payload": "G1syShtdNTI7YzthR2s9Bw0KaGmb/wA="}
{"event": "error", "seq": 4, "at": 1.3, "id": 1, "code": "\u001bc", "message": "a\nb\u001b[1A"}
{"event": "closed", "seq": 5, "at": 1.4, "id": 1, "outcome": "\u001b[8m", "first": "peer", "received": 5, "sent": 0, "age": 0.4, "cause": "\u001b[?1049l\nsecond line\u2028"}
"##;
