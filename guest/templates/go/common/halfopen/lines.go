package halfopen

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Line is a line, or why there is none: it is too long, and its rest is left out, or it is not
// UTF-8.
type Line struct {
	Text string
	Err  error
}

// Lines makes lines of chunks. A peer that never ends its line fills no memory.
type Lines struct {
	// Limit is the most bytes of a line, without its end: \n or \r\n. 0 stands for 8 KiB.
	Limit    int
	partial  []byte
	skipping bool
}

var errNotUTF8 = errors.New("line is not UTF-8")

// Push returns the lines that a chunk completes.
func (l *Lines) Push(chunk []byte) []Line {
	var lines []Line
	for len(chunk) > 0 {
		part, rest, ended := bytes.Cut(chunk, []byte("\n"))
		if !l.skipping {
			l.partial = append(l.partial, part...)
			if limit := l.limit(); len(bytes.TrimSuffix(l.partial, []byte("\r"))) > limit {
				lines = append(lines, Line{Err: fmt.Errorf("line longer than %d bytes", limit)})
				l.partial, l.skipping = nil, true
			}
		}
		if ended {
			if !l.skipping {
				lines = append(lines, l.take())
			}
			l.skipping = false
		}
		chunk = rest
	}
	return lines
}

// Finish returns what came after the last end of a line, if anything did.
func (l *Lines) Finish() (Line, bool) {
	if len(l.partial) == 0 {
		return Line{}, false
	}
	return l.take(), true
}

func (l *Lines) limit() int {
	if l.Limit == 0 {
		return 8192
	}
	return l.Limit
}

func (l *Lines) take() Line {
	line := bytes.TrimSuffix(l.partial, []byte("\r"))
	l.partial = l.partial[:0]
	if !utf8.Valid(line) {
		return Line{Err: errNotUTF8}
	}
	return Line{Text: string(line)}
}
