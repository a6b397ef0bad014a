// The canonical ABI of `halfopen:tcp/sockets` and `halfopen:tcp/events`, and a table from the
// host's numbers to connections.

#include "halfopen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#define SOCKETS(name) \
  __attribute__((import_module("halfopen:tcp/sockets@0.1.0"), import_name(name)))
#define EVENT(name) __attribute__((export_name("halfopen:tcp/events@0.1.0#" name)))

SOCKETS("write") extern uint32_t sockets_write(uint32_t socket, const void *data, size_t length);
SOCKETS("end") extern void sockets_end(uint32_t socket);
SOCKETS("destroy") extern void sockets_destroy(uint32_t socket);
SOCKETS("reset") extern void sockets_reset(uint32_t socket);
SOCKETS("pause") extern void sockets_pause(uint32_t socket);
SOCKETS("resume") extern void sockets_resume(uint32_t socket);
SOCKETS("unsent") extern uint64_t sockets_unsent(uint32_t socket);
SOCKETS("allow-half-open") extern void sockets_allow_half_open(uint32_t socket, uint32_t allow);
SOCKETS("set-timeout") extern void sockets_set_timeout(uint32_t socket, uint32_t milliseconds);
SOCKETS("remote-address") extern void sockets_remote_address(uint32_t socket, void *result);
SOCKETS("local-address") extern void sockets_local_address(uint32_t socket, void *result);

// The host allocates with this what it passes to the events.
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size,
                                                                size_t align, size_t size) {
  (void)old_size;
  if (size == 0) return (void *)align;
  void *memory = realloc(old, size);
  if (memory == NULL) abort();
  return memory;
}

// Lines are printed when they are complete.
__attribute__((constructor)) static void print_lines(void) {
  setvbuf(stdout, NULL, _IOLBF, 1024);
}

// The open connections, by the host's numbers.
typedef struct entry {
  connection connection;
  struct entry *next;
} entry;

static entry **buckets;
static size_t bucket_count;
static size_t entry_count;

static entry **bucket_of(uint32_t socket) { return &buckets[socket & (bucket_count - 1)]; }

static void grow(void) {
  entry **old = buckets;
  size_t old_count = bucket_count;
  bucket_count = old_count ? old_count * 2 : 8;
  buckets = calloc(bucket_count, sizeof *buckets);
  if (buckets == NULL) abort();
  for (size_t i = 0; i < old_count; i++) {
    for (entry *each = old[i], *next; each; each = next) {
      next = each->next;
      entry **bucket = bucket_of(each->connection.socket);
      each->next = *bucket;
      *bucket = each;
    }
  }
  free(old);
}

static connection *add(uint32_t socket) {
  if (entry_count == bucket_count) grow();
  entry *new = calloc(1, sizeof *new);
  if (new == NULL) abort();
  new->connection.socket = socket;
  entry **bucket = bucket_of(socket);
  new->next = *bucket;
  *bucket = new;
  entry_count++;
  return &new->connection;
}

static connection *find(uint32_t socket) {
  for (entry *each = *bucket_of(socket); each; each = each->next)
    if (each->connection.socket == socket) return &each->connection;
  abort();  // The host names no connection before it has begun, and none after its end.
}

static void drop(uint32_t socket) {
  for (entry **link = bucket_of(socket); *link; link = &(*link)->next) {
    entry *each = *link;
    if (each->connection.socket == socket) {
      *link = each->next;
      free(each);
      entry_count--;
      return;
    }
  }
}

EVENT("connection") void on_connection(uint32_t socket) {
  connection *new = add(socket);
  if (handlers.open) handlers.open(new);
}

EVENT("data") void on_data(uint32_t socket, uint8_t *data, size_t length) {
  if (handlers.data) handlers.data(find(socket), data, length);
  free(data);
}

EVENT("end") void on_end(uint32_t socket) {
  if (handlers.end) handlers.end(find(socket));
}

EVENT("drain") void on_drain(uint32_t socket) {
  if (handlers.drain) handlers.drain(find(socket));
}

EVENT("timeout") void on_timeout(uint32_t socket) {
  if (handlers.timeout) handlers.timeout(find(socket));
}

EVENT("error") void on_error(uint32_t socket, uint32_t code, uint32_t has_text, void *text,
                             size_t length) {
  if (handlers.error) handlers.error(find(socket), (error_code)code);
  if (code == OTHER_ERROR && has_text && length) free(text);
}

EVENT("close") void on_close(uint32_t socket, uint32_t had_error) {
  if (handlers.close) handlers.close(find(socket), had_error);
  drop(socket);
}

written connection_write(connection *c, const void *data, size_t length) {
  return (written)sockets_write(c->socket, data, length);
}

written connection_print(connection *c, const char *text) {
  return connection_write(c, text, strlen(text));
}

void connection_end(connection *c) { sockets_end(c->socket); }
void connection_destroy(connection *c) { sockets_destroy(c->socket); }
void connection_reset(connection *c) { sockets_reset(c->socket); }
void connection_pause(connection *c) { sockets_pause(c->socket); }
void connection_resume(connection *c) { sockets_resume(c->socket); }
uint64_t connection_unsent(connection *c) { return sockets_unsent(c->socket); }

void connection_allow_half_open(connection *c, bool allow) {
  sockets_allow_half_open(c->socket, allow);
}

void connection_set_timeout(connection *c, uint32_t milliseconds) {
  sockets_set_timeout(c->socket, milliseconds);
}

// `result<ip-socket-address, error-code>` in memory.
typedef struct address_result {
  uint8_t is_error;
  union {
    struct {
      uint8_t is_ipv6;
      union {
        struct {
          uint16_t port;
          uint8_t octets[4];
        } ipv4;
        struct {
          uint16_t port;
          uint32_t flow_info;
          uint16_t groups[8];
          uint32_t scope_id;
        } ipv6;
      };
    } address;
    struct {
      uint8_t code;
      struct {
        uint8_t is_some;
        void *text;
        size_t length;
      } other;
    } error;
  };
} address_result;

static bool read_address(address_result *result, address *to) {
  if (result->is_error) {
    bool has_text = result->error.code == OTHER_ERROR && result->error.other.is_some;
    if (has_text && result->error.other.length) free(result->error.other.text);
    return false;
  }
  if (result->address.is_ipv6) {
    uint8_t octets[16];
    for (int i = 0; i < 16; i++) octets[i] = result->address.ipv6.groups[i / 2] >> (i % 2 ? 0 : 8);
    inet_ntop(AF_INET6, octets, to->ip, sizeof to->ip);
    to->port = result->address.ipv6.port;
  } else {
    inet_ntop(AF_INET, result->address.ipv4.octets, to->ip, sizeof to->ip);
    to->port = result->address.ipv4.port;
  }
  return true;
}

bool connection_remote_address(connection *c, address *to) {
  address_result result;
  sockets_remote_address(c->socket, &result);
  return read_address(&result, to);
}

bool connection_local_address(connection *c, address *to) {
  address_result result;
  sockets_local_address(c->socket, &result);
  return read_address(&result, to);
}

const char *error_name(error_code code) {
  static const char *const names[] = {
      "EACCES", "EOPNOTSUPP", "EINVAL",       "ENOMEM",       "ETIMEDOUT",
      "EINVAL", "EADDRNOTAVAIL", "EADDRINUSE", "EHOSTUNREACH", "ECONNREFUSED",
      "EPIPE",  "ECONNRESET", "ECONNABORTED", "EMSGSIZE",     "EIO",
  };
  return code <= OTHER_ERROR ? names[code] : "EIO";
}

bool has_argument(const char *argument) {
  size_t count, size;
  if (__wasi_args_sizes_get(&count, &size) != 0) return false;
  uint8_t **values = malloc((count + 1) * sizeof *values);
  uint8_t *text = malloc(size + 1);
  bool found = false;
  if (values && text && __wasi_args_get(values, text) == 0)
    for (size_t i = 1; i < count && !found; i++)
      found = strcmp((const char *)values[i], argument) == 0;
  free(values);
  free(text);
  return found;
}
