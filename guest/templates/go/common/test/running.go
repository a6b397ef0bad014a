// Package test starts the service for its tests. HALFOPEN names the command, if it is not on the
// path.
package test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"testing"
)

// Service is a running service, and the lines that it prints.
type Service struct {
	address string
	lines   *bufio.Scanner
}

// Start starts the service until the test ends.
func Start(t *testing.T) *Service {
	command := os.Getenv("HALFOPEN")
	if command == "" {
		command = "halfopen"
	}
	server := exec.Command(command, "serve", "../build/service.wasm", "--listen", "127.0.0.1:0")
	server.Stderr = os.Stderr
	output, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	service := &Service{lines: bufio.NewScanner(output)}
	service.address = service.Line() // the first line
	return service
}

// Line is the next line that is printed.
func (s *Service) Line() string {
	s.lines.Scan()
	return s.lines.Text()
}

// Connect connects to the service.
func (s *Service) Connect(t *testing.T) *net.TCPConn {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}
