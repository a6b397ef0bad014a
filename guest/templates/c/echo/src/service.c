// An echo server: it sends back all data, and ends its side after a chunk that contains a `q`.

#include <stdio.h>
#include <string.h>

#include "halfopen.h"

static bool quiet, half_open;

// Prints bytes as Node prints a Buffer: the first 50, and how many more there are.
static void print_buffer(const uint8_t *data, size_t length) {
  printf("data: <Buffer");
  size_t shown = length < 50 ? length : 50;
  for (size_t i = 0; i < shown; i++) printf(" %02x", data[i]);
  if (length > shown) printf(" ... %zu more byte%s", length - shown, length - shown > 1 ? "s" : "");
  printf(">\n");
}

static void on_open(connection *c) {
  quiet = has_argument("--quiet");
  half_open = has_argument("--allow-half-open");
  connection_allow_half_open(c, half_open);
  address peer;
  if (quiet) return;
  if (connection_remote_address(c, &peer)) printf("new connection %s %u\n", peer.ip, peer.port);
  else printf("new connection undefined undefined\n");
}

static void on_data(connection *c, const uint8_t *data, size_t length) {
  if (!quiet) print_buffer(data, length);
  // After our own end nothing is sent any more.
  if (connection_write(c, data, length) != ENDED && memchr(data, 'q', length)) {
    if (!quiet) printf("closing.\n");
    connection_end(c);
  }
}

static void on_end(connection *c) {
  if (!quiet) printf("EOF.\n");
  // With half-open connections allowed, this side does not end by itself.
  if (half_open) connection_end(c);
}

static void on_error(connection *c, error_code code) {
  (void)c;
  if (!quiet) printf("error: %s\n", error_name(code));
}

const service_handlers handlers = {
    .open = on_open,
    .data = on_data,
    .end = on_end,
    .error = on_error,
};
