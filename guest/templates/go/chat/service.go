// A chat: each line goes to everybody else. All connections share one instance, which the Makefile
// declares.
package main

import (
	"fmt"
	"strings"
	"unicode"

	"{{name}}/halfopen"
)

// behind is the most unsent bytes of a client: one that reads too slowly is dropped, and keeps
// nobody waiting.
const behind = 1 << 20

type client struct {
	conn  *halfopen.Conn
	lines halfopen.Lines
	name  string
	gone  bool
}

// room has those who have a name, in the order in which they came.
var room []*client

func main() {}

func init() {
	halfopen.Serve(func(conn *halfopen.Conn) halfopen.Events {
		c := &client{conn: conn, lines: halfopen.Lines{Limit: 1000}}
		c.tell("What is your name?\n")
		return halfopen.Events{Data: c.data, Close: func(bool) { c.leave() }}
	})
}

func (c *client) data(chunk []byte) {
	for _, line := range c.lines.Push(chunk) {
		switch {
		case c.gone: // what follows `/quit`
			return
		case line.Err != nil:
			c.tell(fmt.Sprintf("error: %v\n", line.Err))
			c.gone = true
			c.conn.Close()
		default:
			c.line(line.Text)
		}
	}
}

func (c *client) line(line string) {
	switch {
	case line == "/quit":
		c.leave()
		c.tell("Bye.\n")
		c.gone = true
		c.conn.CloseWrite()
	case c.name == "":
		c.enter(line)
	case line == "/who":
		var names []string
		for _, other := range room {
			names = append(names, other.name)
		}
		c.tell(fmt.Sprintf("* here: %s\n", strings.Join(names, ", ")))
	default:
		// Without control characters, which terminals obey.
		text := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, line)
		c.tellOthers(fmt.Sprintf("%s: %s\n", c.name, text))
	}
}

func (c *client) enter(name string) {
	other := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if name == "" || len([]rune(name)) > 20 || strings.ContainsFunc(name, other) {
		c.tell("Use 1 to 20 letters and digits.\n")
		return
	}
	for _, other := range room {
		if other.name == name {
			c.tell("That name is taken.\n")
			return
		}
	}
	c.name = name
	room = append(room, c)
	c.tell("Welcome. There are /who and /quit.\n")
	c.tellOthers(fmt.Sprintf("* %s is here\n", name))
}

func (c *client) leave() {
	for i, other := range room {
		if other == c {
			room = append(room[:i], room[i+1:]...)
			c.tellOthers(fmt.Sprintf("* %s has left\n", c.name))
			break
		}
	}
	c.name = ""
}

func (c *client) tell(text string) {
	// One that has gone hears nothing any more.
	c.conn.Write([]byte(text))
	if c.conn.Unsent() > behind {
		c.conn.Reset()
	}
}

func (c *client) tellOthers(text string) {
	for _, other := range room {
		if other != c {
			other.tell(text)
		}
	}
}
