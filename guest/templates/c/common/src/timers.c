// The canonical ABI of `halfopen:tcp/timers`, and a list of what timers call.

#ifdef HALFOPEN_TIMERS

#include "timers.h"

#include <stdbool.h>
#include <stdlib.h>

#define TIMERS(name) \
  __attribute__((import_module("halfopen:tcp/timers@0.1.0"), import_name(name)))

TIMERS("set-timer") extern timer timers_set_timer(uint32_t milliseconds);
TIMERS("set-interval") extern timer timers_set_interval(uint32_t milliseconds);
TIMERS("clear") extern void timers_clear(timer);

typedef struct set {
  timer timer;
  bool once;
  timer_call *call;
  void *with;
  struct set *next;
} set;

static set *timers;

static timer add(timer timer, bool once, timer_call *call, void *with) {
  if (timer == 0) return 0;
  set *new = malloc(sizeof *new);
  if (new == NULL) abort();
  *new = (set){timer, once, call, with, timers};
  timers = new;
  return timer;
}

// Takes a timer from the list.
static void take(timer timer) {
  for (set **link = &timers; *link; link = &(*link)->next) {
    set *each = *link;
    if (each->timer == timer) {
      *link = each->next;
      free(each);
      return;
    }
  }
}

timer timer_set(uint32_t milliseconds, timer_call *call, void *with) {
  return add(timers_set_timer(milliseconds), true, call, with);
}

timer timer_every(uint32_t milliseconds, timer_call *call, void *with) {
  return add(timers_set_interval(milliseconds), false, call, with);
}

void timer_clear(timer timer) {
  timers_clear(timer);
  take(timer);
}

__attribute__((export_name("halfopen:tcp/timer-events@0.1.0#fired"))) void on_fired(timer timer) {
  for (set *each = timers; each; each = each->next) {
    if (each->timer != timer) continue;
    set fired = *each;
    if (fired.once) take(timer);
    fired.call(fired.with);
    return;
  }
}

#endif
