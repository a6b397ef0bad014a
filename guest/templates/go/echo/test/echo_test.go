package test

import (
	"io"
	"strings"
	"testing"
)

func TestItSendsBackWhatItGetsAndEndsAfterThePeer(t *testing.T) {
	service := Start(t)
	client := service.Connect(t)
	defer client.Close()
	client.Write([]byte("hi"))
	client.CloseWrite()
	if answer, err := io.ReadAll(client); err != nil || string(answer) != "hi" {
		t.Errorf("%q, %v", answer, err)
	}
	if line := service.Line(); !strings.HasPrefix(line, "new connection 127.0.0.1 ") {
		t.Error(line)
	}
	for _, want := range []string{"data: <Buffer 68 69>", "EOF."} {
		if line := service.Line(); line != want {
			t.Errorf("%q instead of %q", line, want)
		}
	}
}
