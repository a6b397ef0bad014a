package halfopen

// The canonical ABI of halfopen:tcp/sockets and halfopen:tcp/events.

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"unsafe"
)

// ended is what socketsWrite returns for data that was not taken.
const ended = 2

//go:wasmimport halfopen:tcp/sockets@0.1.0 write
func socketsWrite(socket uint32, data unsafe.Pointer, length uint32) uint32

//go:wasmimport halfopen:tcp/sockets@0.1.0 end
func socketsEnd(socket uint32)

//go:wasmimport halfopen:tcp/sockets@0.1.0 destroy
func socketsDestroy(socket uint32)

//go:wasmimport halfopen:tcp/sockets@0.1.0 reset
func socketsReset(socket uint32)

//go:wasmimport halfopen:tcp/sockets@0.1.0 pause
func socketsPause(socket uint32)

//go:wasmimport halfopen:tcp/sockets@0.1.0 resume
func socketsResume(socket uint32)

//go:wasmimport halfopen:tcp/sockets@0.1.0 unsent
func socketsUnsent(socket uint32) uint64

//go:wasmimport halfopen:tcp/sockets@0.1.0 allow-half-open
func socketsAllowHalfOpen(socket uint32, allow bool)

//go:wasmimport halfopen:tcp/sockets@0.1.0 set-timeout
func socketsSetTimeout(socket uint32, milliseconds uint32)

//go:wasmimport halfopen:tcp/sockets@0.1.0 remote-address
func socketsRemoteAddress(socket uint32, result unsafe.Pointer)

//go:wasmimport halfopen:tcp/sockets@0.1.0 local-address
func socketsLocalAddress(socket uint32, result unsafe.Pointer)

//go:wasmexport halfopen:tcp/events@0.1.0#connection
func onConnection(socket uint32) { opened(socket) }

//go:wasmexport halfopen:tcp/events@0.1.0#data
func onData(socket uint32, data unsafe.Pointer, length uint32) {
	handle(socket, func(conn *Conn) {
		if conn.events.Data != nil {
			conn.events.Data(unsafe.Slice((*byte)(data), length))
		}
	})
}

//go:wasmexport halfopen:tcp/events@0.1.0#end
func onEnd(socket uint32) {
	handle(socket, func(conn *Conn) {
		if conn.events.End != nil {
			conn.events.End()
		}
	})
}

//go:wasmexport halfopen:tcp/events@0.1.0#drain
func onDrain(socket uint32) {
	handle(socket, func(conn *Conn) {
		if conn.events.Drain != nil {
			conn.events.Drain()
		}
	})
}

//go:wasmexport halfopen:tcp/events@0.1.0#timeout
func onTimeout(socket uint32) {
	handle(socket, func(conn *Conn) {
		if conn.events.Timeout != nil {
			conn.events.Timeout()
		}
	})
}

//go:wasmexport halfopen:tcp/events@0.1.0#error
func onError(socket uint32, code uint32, _ uint32, _ unsafe.Pointer, _ uint32) {
	handle(socket, func(conn *Conn) {
		if conn.events.Error != nil {
			conn.events.Error(Error(code))
		}
	})
}

//go:wasmexport halfopen:tcp/events@0.1.0#close
func onClose(socket uint32, hadError bool) { closed(socket, hadError) }

// address reads a result<ip-socket-address, error-code>: the case of the result at 0, that of the
// address at 4, and the address itself from 8 on.
func address(get func(uint32, unsafe.Pointer), socket uint32) netip.AddrPort {
	var words [9]uint32
	get(socket, unsafe.Pointer(&words))
	bytes := (*[36]byte)(unsafe.Pointer(&words))
	port := binary.LittleEndian.Uint16(bytes[8:])
	switch {
	case bytes[0] != 0:
		return netip.AddrPort{}
	case bytes[4] == 0:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(bytes[10:14])), port)
	}
	var ip [16]byte
	for i := 0; i < 16; i += 2 {
		ip[i], ip[i+1] = bytes[16+i+1], bytes[16+i]
	}
	return netip.AddrPortFrom(netip.AddrFrom16(ip), port)
}

// What cabi_realloc returns must not start the collector, which would call the host in a place
// where that is not allowed (github.com/bytecodealliance/wasmtime, issue 14318). So the collector
// runs only in collect, after an event, and the host's data goes to one buffer.
var (
	buffer  []byte
	kept    [][]byte // what the host returned during this event
	inEvent bool
	started bool
	early   [256 << 10]byte // for WASI, until init
	used    uintptr
	rest    uint64 // bytes that were alive after the last collection
	calls   uint32
	heap    = make([]metrics.Sample, 1)
)

func init() {
	debug.SetGCPercent(-1)
	heap[0].Name = "/memory/classes/heap/objects:bytes"
	buffer = make([]byte, 64<<10)
	started = true
}

// cabiRealloc is called by the host for the data of an event, and before init by WASI.
//
//go:wasmexport cabi_realloc
func cabiRealloc(_ unsafe.Pointer, _, align, size uintptr) unsafe.Pointer {
	if !started {
		// The runtime has no heap yet.
		used = (used + align - 1) &^ (align - 1)
		pointer := unsafe.Pointer(&early[used])
		used += size
		return pointer
	}
	if inEvent {
		kept = append(kept, make([]byte, max(size, 1)))
		return unsafe.Pointer(unsafe.SliceData(kept[len(kept)-1]))
	}
	if size > uintptr(len(buffer)) {
		buffer = make([]byte, size)
	}
	return unsafe.Pointer(unsafe.SliceData(buffer))
}

// collect runs the collector once there is as much garbage as there was data alive.
func collect() {
	inEvent = false
	kept = nil
	if calls++; calls%64 != 0 {
		return
	}
	metrics.Read(heap)
	if heap[0].Value.Uint64() > 2*rest+4<<20 {
		runtime.GC()
		metrics.Read(heap)
		rest = heap[0].Value.Uint64()
	}
}
