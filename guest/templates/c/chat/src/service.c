// A chat: each line goes to everybody else. All connections share one instance, which the Makefile
// declares.

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "halfopen.h"

#define LINE 1000
#define NAME 20
// The most unsent bytes of a client: one that reads too slowly is dropped, and keeps nobody
// waiting.
#define BEHIND (1 << 20)

typedef struct client {
  connection *connection;
  lines lines;
  char name[NAME + 1];
  bool gone;
  struct client *next;
} client;

// Those who have a name, in the order in which they came.
static client *room;

static void tell(client *c, const char *text) {
  connection_print(c->connection, text);
  if (connection_unsent(c->connection) > BEHIND) connection_reset(c->connection);
}

static void tell_others(client *from, const char *format, ...) {
  char text[LINE + NAME + 20];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  for (client *each = room; each; each = each->next)
    if (each != from) tell(each, text);
}

static void enter(client *c, const char *name, size_t length) {
  bool fits = length > 0 && length <= NAME;
  for (size_t i = 0; fits && i < length; i++) fits = isalnum((unsigned char)name[i]);
  if (!fits) {
    tell(c, "Use 1 to 20 letters and digits.\n");
    return;
  }
  client **link = &room;
  for (; *link; link = &(*link)->next) {
    if (strcmp((*link)->name, name) == 0) {
      tell(c, "That name is taken.\n");
      return;
    }
  }
  *link = c;
  strcpy(c->name, name);
  tell(c, "Welcome. There are /who and /quit.\n");
  tell_others(c, "* %s is here\n", name);
}

static void leave(client *c) {
  for (client **link = &room; *link; link = &(*link)->next) {
    if (*link == c) {
      *link = c->next;
      c->next = NULL;
      tell_others(c, "* %s has left\n", c->name);
      break;
    }
  }
  c->name[0] = '\0';
}

static void who(client *c) {
  tell(c, "* here: ");
  for (client *each = room; each; each = each->next) {
    tell(c, each->name);
    tell(c, each->next ? ", " : "\n");
  }
}

static void on_text(connection *connection, char *text, size_t length) {
  client *c = connection->state;
  if (c->gone) return;  // what follows `/quit`
  if (text == NULL) {
    tell(c, "error: line longer than 1000 bytes\n");
    c->gone = true;
    connection_destroy(connection);
  } else if (strcmp(text, "/quit") == 0) {
    leave(c);
    tell(c, "Bye.\n");
    c->gone = true;
    connection_end(connection);
  } else if (c->name[0] == '\0') {
    enter(c, text, length);
  } else if (strcmp(text, "/who") == 0) {
    who(c);
  } else {
    // Without control characters, which terminals obey.
    size_t kept = 0;
    for (size_t i = 0; i < length; i++)
      if (!iscntrl((unsigned char)text[i])) text[kept++] = text[i];
    text[kept] = '\0';
    tell_others(c, "%s: %s\n", c->name, text);
  }
}

static void on_open(connection *connection) {
  client *c = calloc(1, sizeof *c);
  if (c == NULL || !lines_init(&c->lines, LINE)) abort();
  c->connection = connection;
  connection->state = c;
  tell(c, "What is your name?\n");
}

static void on_data(connection *connection, const uint8_t *data, size_t length) {
  client *c = connection->state;
  lines_push(&c->lines, data, length, on_text, connection);
}

static void on_close(connection *connection, bool had_error) {
  (void)had_error;
  client *c = connection->state;
  leave(c);
  lines_free(&c->lines);
  free(c);
}

const service_handlers handlers = {.open = on_open, .data = on_data, .close = on_close};
