// A line protocol: one request per line, one answer per request.
//
// TCP has no messages. A line may arrive in many chunks, and one chunk may hold many lines, so
// something has to put them together: here halfopen.Lines, which also limits the length of a line.
package main

import (
	"fmt"
	"slices"
	"strings"

	"{{name}}/halfopen"
)

func main() {}

func init() {
	halfopen.Serve(func(conn *halfopen.Conn) halfopen.Events {
		lines := halfopen.Lines{Limit: 1024}
		ended := false
		reply := func(line halfopen.Line) {
			if ended { // what follows `quit`
				return
			}
			var answer string
			answer, ended = respond(line)
			conn.Write([]byte(answer + "\n"))
			if ended {
				conn.CloseWrite()
			}
		}
		return halfopen.Events{
			Data: func(chunk []byte) {
				for _, line := range lines.Push(chunk) {
					reply(line)
				}
			},
			End: func() {
				if line, any := lines.Finish(); any { // the last line needs no end
					reply(line)
				}
			},
		}
	})
}

// respond returns the answer, and whether it is the last.
func respond(line halfopen.Line) (string, bool) {
	if line.Err != nil {
		return fmt.Sprintf("error: %v", line.Err), true
	}
	command, text, _ := strings.Cut(line.Text, " ")
	characters := []rune(text)
	switch command {
	case "upper":
		return strings.ToUpper(text), false
	case "reverse":
		slices.Reverse(characters)
		return string(characters), false
	case "count":
		return fmt.Sprint(len(characters)), false
	case "quit":
		return "bye", true
	}
	known := "there are upper, reverse, count and quit"
	return fmt.Sprintf("error: unknown request `%s`; %s", command, known), false
}
