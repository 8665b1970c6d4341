package presence_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/presence"
)

const agent = errand.AgentID("bc-1")

func caller(name string) errand.Caller { return errand.Caller{Key: name, Name: name} }

// here writes who is there in a line.
func here(r *presence.Rooms) string {
	people, more := r.Here(agent)
	var all []string
	for _, p := range people {
		text := p.Caller.Name + " " + p.Doing + " " + p.Terminal
		if p.Port > 0 {
			text += fmt.Sprint(" ", p.Port)
		}
		if p.Typing {
			text += " typing"
		}
		all = append(all, strings.Join(strings.Fields(text), " "))
	}
	if more > 0 {
		all = append(all, fmt.Sprint(more))
	}
	return strings.Join(all, "; ")
}

// TestRooms: two people see each other come, type, rest and go, a second page of
// the same person is the same person, and an empty room is none.
func TestRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r presence.Rooms
		wants := func(want string) {
			t.Helper()
			if got := here(&r); got != want {
				t.Errorf("there are %q, want %q", got, want)
			}
		}
		ada := r.Enter(agent, presence.Person{Caller: caller("Ada"), Doing: presence.Watching})
		again := r.Enter(agent, presence.Person{Caller: caller("Ada"), Doing: presence.Watching})
		changed := ada.Changed()
		grace := r.Enter(agent, presence.Person{Caller: caller("Grace"), Doing: presence.Terminal, Terminal: "desk"})
		<-changed
		wants("Ada watching; Grace terminal desk")
		changed = ada.Changed()
		grace.Typed()
		<-changed
		wants("Ada watching; Grace terminal desk typing")
		time.Sleep(4 * time.Second)
		changed = ada.Changed()
		grace.Typed()
		time.Sleep(4 * time.Second)
		select {
		case <-changed:
			t.Error("who goes on typing is told of again")
		default:
		}
		<-changed
		wants("Ada watching; Grace terminal desk")
		again.Leave()
		again.Leave()
		grace.Leave()
		wants("Ada watching")
		ada.Leave()
		wants("")
		if ada.Changed() != nil {
			t.Error("who has left is told of changes")
		}
	})
}

// TestUse: what comes and goes is one visit, which ends a minute after the last.
func TestUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r presence.Rooms
		wants := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := here(&r); got != want {
				t.Errorf("there are %q, want %q", got, want)
			}
		}
		page := presence.Person{Caller: caller("Ada"), Doing: presence.Preview, Port: 3000}
		other := presence.Person{Caller: caller("Ada"), Doing: presence.Preview, Port: 3001}
		socket, request := r.Use(agent, page), r.Use(agent, page)
		r.Use(agent, other)()
		wants("Ada preview 3000; Ada preview 3001")
		request()
		request() // again does nothing
		time.Sleep(2 * time.Minute)
		wants("Ada preview 3000")
		socket()
		time.Sleep(59 * time.Second)
		wants("Ada preview 3000")
		again := r.Use(agent, page)
		time.Sleep(time.Minute)
		wants("Ada preview 3000")
		again()
		grace := r.Enter(agent, presence.Person{Caller: caller("Grace"), Doing: presence.Files})
		changed := grace.Changed()
		time.Sleep(time.Minute)
		<-changed
		wants("Grace files")
		grace.Leave()
		r.Use(agent, page)() // in a new room
		wants("Ada preview 3000")
		time.Sleep(time.Minute)
		wants("")
	})
}

func TestManyPeople(t *testing.T) {
	var r presence.Rooms
	for n := range 50 {
		defer r.Enter(agent, presence.Person{Caller: caller(fmt.Sprintf("p%02d", n)), Doing: presence.Watching}).Leave()
	}
	if people, more := r.Here(agent); len(people) != 30 || more != 20 {
		t.Errorf("%d people and %d more", len(people), more)
	}
}
