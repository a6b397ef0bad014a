package main

import (
	"time"

	"{{name}}/halfopen"
	"{{name}}/halfopen/timers"
)

func main() {}

func init() {
	halfopen.Serve(func(conn *halfopen.Conn) halfopen.Events {
		pings := 0
		var timer timers.Timer
		timer, err := timers.Every(100*time.Millisecond, func() {
			conn.Write([]byte("ping\n"))
			if pings++; pings == 3 {
				timer.Stop()
			}
		})
		if err != nil {
			conn.Reset()
		}
		return halfopen.Events{Close: func(bool) { timer.Stop() }}
	})
}
