/** A timer that has been set. */
export type Timer = number & { readonly timer: unique symbol };

/** Calls a function once after this time; 0 means after the event that is being handled. */
export function setTimer(call: () => void, milliseconds: number): Timer;

/** Calls a function again and again. */
export function setInterval(call: () => void, milliseconds: number): Timer;

/** Ends a timer: it calls nothing any more. */
export function clear(timer: Timer): void;

/** What the host calls. A service that uses timers exports it. */
export const timerEvents: {};
