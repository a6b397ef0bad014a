package test

import (
	"io"
	"testing"
)

func TestEachLineHasAnAnswer(t *testing.T) {
	service := Start(t)
	client := service.Connect(t)
	defer client.Close()
	client.Write([]byte("upper hello\nreverse abc\ncount four"))
	client.CloseWrite()
	if answer, err := io.ReadAll(client); err != nil || string(answer) != "HELLO\ncba\n4\n" {
		t.Errorf("%q, %v", answer, err)
	}
}
