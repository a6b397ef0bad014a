#include <stdlib.h>
#include <string.h>

#include "halfopen.h"

static void on_data(connection *c, const uint8_t *data, size_t length) {
  if (memchr(data, '!', length)) abort();
  connection_write(c, data, length);
}

const service_handlers handlers = {.data = on_data};
