package main

import (
	"testing"
	"time"
)

func TestFirstByte(t *testing.T) {
	for _, c := range []struct {
		wait, base string
		want       time.Duration
		missing    string
	}{
		{"", "", 0, ""},
		{"", "http://127.0.0.1:8080/v1", 10 * time.Minute, ""},
		{"45m", "http://127.0.0.1:8080/v1", 45 * time.Minute, ""},
		{"45m", "", 45 * time.Minute, ""},
		{"soon", "", 0, "ERRAND_MODEL_WAIT to a time such as 20m"},
		{"-1s", "", 0, "ERRAND_MODEL_WAIT to a time such as 20m"},
	} {
		if got, missing := firstByte(c.wait, c.base); got != c.want || missing != c.missing {
			t.Errorf("%q with server %q: %s, %q; want %s, %q", c.wait, c.base, got, missing, c.want, c.missing)
		}
	}
	if p := newOpenAI("key", "", "soon"); p.Missing == "" {
		t.Error("a provider with a wait that is none can be used")
	}
}
