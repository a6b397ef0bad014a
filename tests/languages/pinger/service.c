#include <stdlib.h>

#include "halfopen.h"
#include "timers.h"

typedef struct pinger {
  connection *connection;
  timer timer;
  int pings;
} pinger;

static void ping(void *with) {
  pinger *p = with;
  connection_print(p->connection, "ping\n");
  if (++p->pings == 3) timer_clear(p->timer);
}

static void on_open(connection *c) {
  pinger *p = calloc(1, sizeof *p);
  if (p == NULL) abort();
  p->connection = c;
  p->timer = timer_every(100, ping, p);
  c->state = p;
}

static void on_close(connection *c, bool had_error) {
  (void)had_error;
  pinger *p = c->state;
  timer_clear(p->timer);
  free(p);
}

const service_handlers handlers = {.open = on_open, .close = on_close};
