// Connections, on the interfaces `halfopen:tcp/sockets` and `halfopen:tcp/events`.
//
// A service defines `handlers`, a table of functions that are called with what happens. None of
// them waits, and one runs at a time. A handler that is NULL is left out.

#ifndef HALFOPEN_H
#define HALFOPEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A connection. It is valid until its handler `close` has returned.
typedef struct connection {
  uint32_t socket;  // The host's number for it.
  void *state;      // The service's own; NULL at first.
} connection;

// Why a connection has failed, in the order of `error-code` in wit/deps/halfopen-tcp/types.wit.
typedef enum error_code {
  ACCESS_DENIED,
  NOT_SUPPORTED,
  INVALID_ARGUMENT,
  OUT_OF_MEMORY,
  TIMEOUT,
  INVALID_STATE,
  ADDRESS_NOT_BINDABLE,
  ADDRESS_IN_USE,
  REMOTE_UNREACHABLE,
  CONNECTION_REFUSED,
  CONNECTION_BROKEN,
  CONNECTION_RESET,
  CONNECTION_ABORTED,
  DATAGRAM_TOO_LARGE,
  OTHER_ERROR,
} error_code;

// What a service does about each event, in the order in which they come.
typedef struct service_handlers {
  // A connection begins.
  void (*open)(connection *);
  // Data has arrived. It is valid until the handler returns. How it is divided into chunks has
  // no meaning: TCP is a stream of bytes.
  void (*data)(connection *, const uint8_t *data, size_t length);
  // The peer has sent FIN. What is written now is still sent; then this side ends as well,
  // unless half-open connections are allowed.
  void (*end)(connection *);
  // Everything written is with the operating system, after `connection_write` has returned WAIT.
  void (*drain)(connection *);
  // The time of `connection_set_timeout` is over.
  void (*timeout)(connection *);
  // The connection has failed. Only `close` follows.
  void (*error)(connection *, error_code);
  // The connection is over. Comes last, and once; frees `state`.
  void (*close)(connection *, bool had_error);
} service_handlers;

// Defined by the service.
extern const service_handlers handlers;

// What became of a write: MORE and WAIT have sent it, and after WAIT `drain` follows; ENDED has
// not, because this side has ended or the connection has gone.
typedef enum written { MORE, WAIT, ENDED } written;

written connection_write(connection *, const void *data, size_t length);
written connection_print(connection *, const char *text);
// FIN follows what was written. Data from the peer keeps arriving.
void connection_end(connection *);
// Closes at once; resets if not everything written can be sent immediately.
void connection_destroy(connection *);
// Sends RST: the peer cannot take a part for the whole.
void connection_reset(connection *);
// Holds back `data` until `connection_resume`.
void connection_pause(connection *);
void connection_resume(connection *);
// Bytes that the operating system has not taken yet.
uint64_t connection_unsent(connection *);
// Whether this side stays open after the peer's FIN, until `connection_end`.
void connection_allow_half_open(connection *, bool allow);
// Calls `timeout` after this time without data; 0 never does.
void connection_set_timeout(connection *, uint32_t milliseconds);

// An address as text and port, such as "127.0.0.1" and 1234.
typedef struct address {
  char ip[40];
  uint16_t port;
} address;

// False if it is not known.
bool connection_remote_address(connection *, address *);
bool connection_local_address(connection *, address *);

// The name of an error as Node has it, such as "ECONNRESET".
const char *error_name(error_code);

// Whether `--NAME` is among the arguments of the service, which follow `--` on the command line.
bool has_argument(const char *argument);

// Makes lines of chunks. A peer that never ends its line fills no memory.
typedef struct lines {
  char *partial;   // What has come of the line that is not complete.
  size_t length;   // Its length.
  size_t limit;    // The most bytes of a line, without its end: \n or \r\n.
  bool skipping;   // The rest of a line that was too long is left out.
} lines;

// A line, with a NUL behind it. `text` is NULL if the line was too long.
typedef void on_line(connection *, char *text, size_t length);

// False if there is no memory for a line.
bool lines_init(lines *, size_t limit);
void lines_free(lines *);
// Calls `each` for each line that a chunk completes.
void lines_push(lines *, const uint8_t *data, size_t length, on_line *each, connection *);
// Calls `each` for what came after the last end of a line, if anything did.
void lines_finish(lines *, on_line *each, connection *);

#endif
