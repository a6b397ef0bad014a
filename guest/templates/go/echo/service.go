// An echo server: it sends back all data, and ends its side after a chunk that contains a `q`.
package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"{{name}}/halfopen"
)

func main() {}

func init() { halfopen.Serve(echo) }

func echo(conn *halfopen.Conn) halfopen.Events {
	quiet := slices.Contains(os.Args, "--quiet")
	halfOpen := slices.Contains(os.Args, "--allow-half-open")
	log := func(format string, values ...any) {
		if !quiet {
			fmt.Printf(format+"\n", values...)
		}
	}
	conn.AllowHalfOpen(halfOpen)
	if peer := conn.RemoteAddr(); peer.IsValid() {
		log("new connection %s %d", peer.Addr(), peer.Port())
	} else {
		log("new connection undefined undefined")
	}
	return halfopen.Events{
		Data: func(chunk []byte) {
			if !quiet {
				log("data: %s", buffer(chunk))
			}
			// After our own end nothing is sent any more.
			if _, err := conn.Write(chunk); err == nil && bytes.IndexByte(chunk, 'q') >= 0 {
				log("closing.")
				conn.CloseWrite()
			}
		},
		End: func() {
			log("EOF.")
			// With half-open connections allowed, this side does not end by itself.
			if halfOpen {
				conn.CloseWrite()
			}
		},
		Error: func(err halfopen.Error) { log("error: %s", err) },
	}
}

// buffer shows bytes as Node shows a Buffer: the first 50, and how many more there are.
func buffer(data []byte) string {
	shown := fmt.Sprintf("% x", data[:min(len(data), 50)])
	switch more := len(data) - 50; {
	case more == 1:
		shown += " ... 1 more byte"
	case more > 1:
		shown += fmt.Sprintf(" ... %d more bytes", more)
	}
	return "<Buffer " + shown + ">"
}
