//go:build race

package store_test

// raced: SQLite, which is Go here, is built with the race detector, and forty
// times as slow.
const raced = true
