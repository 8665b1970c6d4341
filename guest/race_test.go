//go:build race

package guest_test

// raced: the guest is built with the race detector as the test is, because half
// of what can race is there. It exits with an error where it saw a race.
const raced = true
