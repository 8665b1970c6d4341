package loop

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := make(chan []errand.Fact, 10)
		s := newStream(3, 2, func(facts []errand.Fact) error {
			records <- facts
			return nil
		})
		s.add(llm.Delta{Type: llm.Thinking, Text: "hm"})
		s.add(llm.Delta{Type: llm.Text, Text: "a"})
		s.add(llm.Delta{Type: llm.ToolCall, Text: `{"x"`})
		s.add(llm.Delta{Type: llm.Text, Text: "b"})
		synctest.Wait()
		if len(records) != 0 {
			t.Errorf("recorded at once: %v", <-records)
		}
		time.Sleep(streamWait)
		synctest.Wait()
		big := strings.Repeat("x", streamBytes)
		s.add(llm.Delta{Type: llm.Text, Text: big})
		synctest.Wait()
		s.add(llm.Delta{Type: llm.Text, Text: "end"})
		left := s.close()
		close(records)
		var got [][]errand.Fact
		for facts := range records {
			got = append(got, facts)
		}

		text := func(kind errand.EventKind, text string) errand.Fact {
			return errand.Fact{Kind: kind, Data: errand.TextData{Turn: 3, Attempt: 2, Text: text}}
		}
		want := [][]errand.Fact{
			{text(errand.EventThinking, "hm"), text(errand.EventText, "ab")},
			{text(errand.EventText, big)},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("wrong records (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]errand.Fact{text(errand.EventText, "end")}, left); d != "" {
			t.Errorf("wrong rest (-want +got):\n%s", d)
		}
	})
}

// When recording fails the stream stops, and closing it does not hang.
func TestStreamFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		s := newStream(1, 1, func([]errand.Fact) error {
			tried++
			return errors.New("disk is full")
		})
		s.add(llm.Delta{Type: llm.Text, Text: "a"})
		time.Sleep(2 * streamWait)
		s.add(llm.Delta{Type: llm.Text, Text: "b"})
		time.Sleep(2 * streamWait)
		left := s.close()
		if tried != 1 || len(left) != 1 || left[0].Data.(errand.TextData).Text != "b" {
			t.Errorf("recording was tried %d times, and left is %+v", tried, left)
		}
	})
}
