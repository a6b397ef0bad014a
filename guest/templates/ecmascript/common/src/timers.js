// Timers, on the interface `halfopen:tcp/timers`. A service that uses them exports `timerEvents`,
// and wit/service.wit has the two lines about them.

import timers from "halfopen:tcp/timers@0.1.0";

const calls = new Map();

// Calls a function once after this time; returns the timer.
export function setTimer(call, milliseconds) {
  const timer = started(timers.setTimer(milliseconds), () => {
    calls.delete(timer);
    call();
  });
  return timer;
}

// Calls a function again and again; returns the timer.
export function setInterval(call, milliseconds) {
  return started(timers.setInterval(milliseconds), () => call());
}

export function clear(timer) {
  timers.clear(timer);
  calls.delete(timer);
}

function started(timer, call) {
  if (timer === 0) throw new Error("too many timers");
  calls.set(timer, call);
  return timer;
}

export const timerEvents = {
  fired(timer) {
    try {
      calls.get(timer)?.();
    } catch (error) {
      console.error("uncaught in a timer:", error);
    }
  },
};
