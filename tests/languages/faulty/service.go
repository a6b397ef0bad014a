package main

import (
	"bytes"

	"{{name}}/halfopen"
)

func main() {}

func init() {
	halfopen.Serve(func(conn *halfopen.Conn) halfopen.Events {
		return halfopen.Events{Data: func(chunk []byte) {
			if bytes.IndexByte(chunk, '!') >= 0 {
				panic("out of order")
			}
			conn.Write(chunk)
		}}
	})
}
