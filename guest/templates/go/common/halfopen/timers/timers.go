// Package timers has timers, on the interface halfopen:tcp/timers. A service that imports it asks
// its host for them.
package timers

import (
	"errors"
	"time"

	"{{name}}/halfopen"
)

// Timer is a timer that has been set.
type Timer uint32

// ErrTooMany is the error of a timer that is one too many.
var ErrTooMany = errors.New("too many timers")

var calls = map[Timer]func(){}

//go:wasmimport halfopen:tcp/timers@0.1.0 set-timer
func setTimer(milliseconds uint32) uint32

//go:wasmimport halfopen:tcp/timers@0.1.0 set-interval
func setInterval(milliseconds uint32) uint32

//go:wasmimport halfopen:tcp/timers@0.1.0 clear
func clear(timer uint32)

// AfterFunc calls a function once after this time.
func AfterFunc(after time.Duration, call func()) (Timer, error) {
	timer := Timer(setTimer(uint32(after.Milliseconds())))
	return started(timer, func() {
		delete(calls, timer)
		call()
	})
}

// Every calls a function again and again.
func Every(interval time.Duration, call func()) (Timer, error) {
	return started(Timer(setInterval(uint32(interval.Milliseconds()))), call)
}

// Stop ends a timer: it calls nothing any more.
func (t Timer) Stop() {
	clear(uint32(t))
	delete(calls, t)
}

func started(timer Timer, call func()) (Timer, error) {
	if timer == 0 {
		return 0, ErrTooMany
	}
	calls[timer] = call
	return timer, nil
}

//go:wasmexport halfopen:tcp/timer-events@0.1.0#fired
func fired(timer uint32) {
	if call := calls[Timer(timer)]; call != nil {
		halfopen.Handle(call)
	}
}
