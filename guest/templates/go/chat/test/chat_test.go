package test

import (
	"io"
	"net"
	"testing"
)

func expect(t *testing.T, client net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != text {
		t.Fatalf("%q instead of %q, %v", got, text, err)
	}
}

func enter(t *testing.T, service *Service, name string) net.Conn {
	client := service.Connect(t)
	expect(t, client, "What is your name?\n")
	client.Write([]byte(name + "\n"))
	expect(t, client, "Welcome. There are /who and /quit.\n")
	return client
}

func TestEverybodyHearsTheOthers(t *testing.T) {
	service := Start(t)
	ann := enter(t, service, "ann")
	defer ann.Close()
	bob := enter(t, service, "bob")
	expect(t, ann, "* bob is here\n")
	bob.Write([]byte("hello\n"))
	expect(t, ann, "bob: hello\n")
	bob.Close()
	expect(t, ann, "* bob has left\n")
}
