#!/bin/sh
# Runs all tests; fails with the first that does not hold.
cd "$(dirname "$0")/.." || exit 1
check() {
	got=$(sh slug.sh "$1")
	if [ "$got" != "$2" ]; then
		echo "not ok: slug of '$1' is '$got', want '$2'"
		exit 1
	fi
	echo "ok: $2"
}
check "Hello World" hello-world
check "one" one
check "Two  blanks   here" two-blanks-here
echo "all 3 tests pass"
