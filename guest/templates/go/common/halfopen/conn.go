// Package halfopen has connections as values, on the interfaces halfopen:tcp/sockets and
// halfopen:tcp/events.
package halfopen

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"time"
	"unsafe"
)

// Events is what a service does about what happens on one connection. The functions are called
// one at a time, and none of them waits. One that is nil is left out.
type Events struct {
	// Data has arrived. The chunk is valid until the function returns. How data is divided into
	// chunks has no meaning: TCP is a stream of bytes.
	Data func(chunk []byte)
	// End is called when the peer has sent FIN. What is written now is still sent; then this side
	// ends as well, unless half-open connections are allowed.
	End func()
	// Drain is called when everything written is with the operating system, after more than 64 KiB
	// waited.
	Drain func()
	// Timeout is called when the time of SetTimeout is over.
	Timeout func()
	// Error is called when the connection has failed. Only Close follows.
	Error func(err Error)
	// Close is called when the connection is over, last, and once.
	Close func(hadError bool)
}

// Conn is a connection.
type Conn struct {
	socket uint32
	events Events
}

// ErrEnded is the error of a Write that sent nothing: this side has ended, or the connection has
// gone.
var ErrEnded = errors.New("the sending direction has ended")

var (
	serve func(*Conn) Events
	conns = map[uint32]*Conn{}
)

// Serve sets what is called for each new connection, and returns what is to be done about its
// events. It is called by a function init.
func Serve(open func(conn *Conn) Events) { serve = open }

// Write sends data; it never waits.
func (c *Conn) Write(data []byte) (int, error) {
	if socketsWrite(c.socket, unsafe.Pointer(unsafe.SliceData(data)), uint32(len(data))) == ended {
		return 0, ErrEnded
	}
	return len(data), nil
}

// CloseWrite sends FIN behind what was written. Data from the peer keeps arriving.
func (c *Conn) CloseWrite() { socketsEnd(c.socket) }

// Close closes at once; it resets if not everything written can be sent immediately.
func (c *Conn) Close() error {
	socketsDestroy(c.socket)
	return nil
}

// Reset sends RST: the peer cannot take a part for the whole.
func (c *Conn) Reset() { socketsReset(c.socket) }

// Pause holds back Data until Resume.
func (c *Conn) Pause() { socketsPause(c.socket) }

// Resume undoes Pause.
func (c *Conn) Resume() { socketsResume(c.socket) }

// Unsent is the number of bytes that the operating system has not taken yet.
func (c *Conn) Unsent() uint64 { return socketsUnsent(c.socket) }

// AllowHalfOpen sets whether this side stays open after the peer's FIN, until CloseWrite.
func (c *Conn) AllowHalfOpen(allow bool) { socketsAllowHalfOpen(c.socket, allow) }

// SetTimeout calls Timeout after this time without data; 0 never does.
func (c *Conn) SetTimeout(idle time.Duration) {
	socketsSetTimeout(c.socket, uint32(idle.Milliseconds()))
}

// RemoteAddr is the peer's address; it is not valid if it is not known.
func (c *Conn) RemoteAddr() netip.AddrPort { return address(socketsRemoteAddress, c.socket) }

// LocalAddr is this side's address; it is not valid if it is not known.
func (c *Conn) LocalAddr() netip.AddrPort { return address(socketsLocalAddress, c.socket) }

// handle calls a function for an event. A panic is printed, and resets the connection: the others
// go on.
func handle(socket uint32, function func(conn *Conn)) {
	inEvent = true
	defer collect()
	conn := conns[socket]
	defer func() {
		if why := recover(); why != nil {
			fmt.Fprintf(os.Stderr, "panic in an event: %v\n%s", why, debug.Stack())
			conn.Reset()
		}
	}()
	function(conn)
}

// Handle calls a function for an event that is about no connection, such as a timer. A panic is
// printed.
func Handle(function func()) {
	inEvent = true
	defer collect()
	defer func() {
		if why := recover(); why != nil {
			fmt.Fprintf(os.Stderr, "panic in an event: %v\n%s", why, debug.Stack())
		}
	}()
	function()
}

func opened(socket uint32) {
	conns[socket] = &Conn{socket: socket}
	handle(socket, func(conn *Conn) {
		if serve == nil {
			panic("the service does not call halfopen.Serve in a function init")
		}
		conn.events = serve(conn)
	})
}

func closed(socket uint32, hadError bool) {
	handle(socket, func(conn *Conn) {
		if conn.events.Close != nil {
			conn.events.Close(hadError)
		}
	})
	delete(conns, socket)
}
