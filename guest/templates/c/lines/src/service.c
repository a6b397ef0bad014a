// A line protocol: one request per line, one answer per request.
//
// TCP has no messages. A line may arrive in many chunks, and one chunk may hold many lines, so
// something has to put them together: here `lines`, which also limits the length of a line.

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "halfopen.h"

#define LIMIT 1024

typedef struct requests {
  lines lines;
  bool ended;
} requests;

static void last(connection *connection, const char *answer) {
  requests *r = connection->state;
  r->ended = true;
  connection_print(connection, answer);
  connection_end(connection);
}

// The length of a character of UTF-8 at `text`; 0 if there is none.
static size_t character(const char *text) {
  const unsigned char *c = (const unsigned char *)text;
  size_t length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
  for (size_t i = 1; i < length; i++)
    if ((c[i] & 0xc0) != 0x80) return 0;
  // Longer than they need be, surrogates, and what Unicode does not have.
  if (c[0] == 0xe0 && c[1] < 0xa0) return 0;
  if (c[0] == 0xed && c[1] > 0x9f) return 0;
  if (c[0] == 0xf0 && c[1] < 0x90) return 0;
  if (c[0] == 0xf4 && c[1] > 0x8f) return 0;
  return length;
}

static bool is_utf8(const char *text, size_t length) {
  for (size_t i = 0, next; i < length; i += next) {
    next = character(text + i);
    if (next == 0) return false;
  }
  return true;
}

static void on_request(connection *connection, char *line, size_t length) {
  char answer[2 * LIMIT];
  requests *r = connection->state;
  if (r->ended) return;  // what follows `quit`
  if (line == NULL) {
    snprintf(answer, sizeof answer, "error: line longer than %d bytes\n", LIMIT);
    last(connection, answer);
    return;
  }
  if (!is_utf8(line, length)) {
    last(connection, "error: line is not UTF-8\n");
    return;
  }
  char *text = strchr(line, ' ');
  if (text != NULL) *text++ = '\0';
  else text = line + length;
  size_t size = strlen(text);
  if (strcmp(line, "upper") == 0) {
    for (size_t i = 0; i < size; i++) answer[i] = (char)toupper((unsigned char)text[i]);
  } else if (strcmp(line, "reverse") == 0) {
    for (size_t i = 0, next; i < size; i += next) {
      next = character(text + i);
      memcpy(answer + size - i - next, text + i, next);
    }
  } else if (strcmp(line, "count") == 0) {
    size_t count = 0;
    for (size_t i = 0; i < size; i += character(text + i)) count++;
    size = (size_t)snprintf(answer, sizeof answer, "%zu", count);
  } else if (strcmp(line, "quit") == 0) {
    last(connection, "bye\n");
    return;
  } else {
    const char *known = "there are upper, reverse, count and quit";
    size = (size_t)snprintf(answer, sizeof answer, "error: unknown request `%s`; %s", line, known);
  }
  answer[size] = '\n';
  connection_write(connection, answer, size + 1);
}

static void on_open(connection *connection) {
  requests *r = calloc(1, sizeof *r);
  if (r == NULL || !lines_init(&r->lines, LIMIT)) abort();
  connection->state = r;
}

static void on_data(connection *connection, const uint8_t *data, size_t length) {
  requests *r = connection->state;
  lines_push(&r->lines, data, length, on_request, connection);
}

static void on_end(connection *connection) {
  requests *r = connection->state;
  lines_finish(&r->lines, on_request, connection);  // the last line needs no end
}

static void on_close(connection *connection, bool had_error) {
  (void)had_error;
  requests *r = connection->state;
  lines_free(&r->lines);
  free(r);
}

const service_handlers handlers = {
    .open = on_open,
    .data = on_data,
    .end = on_end,
    .close = on_close,
};
