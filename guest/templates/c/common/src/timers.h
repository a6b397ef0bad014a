// Timers, on the interface `halfopen:tcp/timers`, for a service whose Makefile says
// `FEATURES = -DHALFOPEN_TIMERS`.

#ifndef HALFOPEN_TIMERS_H
#define HALFOPEN_TIMERS_H

#include <stdint.h>

// The number of a timer; 0 if there are too many.
typedef uint32_t timer;

typedef void timer_call(void *with);

// Calls a function once after this time.
timer timer_set(uint32_t milliseconds, timer_call *call, void *with);
// Calls a function again and again.
timer timer_every(uint32_t milliseconds, timer_call *call, void *with);
// Ends a timer: it calls nothing any more. Has no effect on one that has ended.
void timer_clear(timer);

#endif
