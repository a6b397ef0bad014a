// Lines of bounded length.

#include <stdlib.h>
#include <string.h>

#include "halfopen.h"

bool lines_init(lines *l, size_t limit) {
  // With room for `\r`, and for the NUL.
  *l = (lines){.partial = malloc(limit + 2), .limit = limit};
  return l->partial != NULL;
}

void lines_free(lines *l) { free(l->partial); }

// Adds a part of a line; false if the line is too long.
static bool add(lines *l, const uint8_t *part, size_t length) {
  if (length > l->limit + 1 - l->length) return false;
  memcpy(l->partial + l->length, part, length);
  l->length += length;
  return l->length <= l->limit || l->partial[l->length - 1] == '\r';
}

static void take(lines *l, on_line *each, connection *c) {
  size_t length = l->length;
  if (length > 0 && l->partial[length - 1] == '\r') length--;
  l->partial[length] = '\0';
  l->length = 0;
  each(c, l->partial, length);
}

void lines_push(lines *l, const uint8_t *data, size_t length, on_line *each, connection *c) {
  while (length > 0) {
    const uint8_t *newline = memchr(data, '\n', length);
    size_t part = newline ? (size_t)(newline - data) : length;
    if (!l->skipping && !add(l, data, part)) {
      l->skipping = true;
      l->length = 0;
      each(c, NULL, 0);
    }
    if (newline) {
      if (!l->skipping) take(l, each, c);
      l->skipping = false;
      part++;
    }
    data += part;
    length -= part;
  }
}

void lines_finish(lines *l, on_line *each, connection *c) {
  if (l->length > 0) take(l, each, c);
}
