#!/bin/sh
# Makes a slug of a title: slug.sh "Hello World" prints hello-world.
printf '%s' "$1" | tr '[:upper:]' '[:lower:]' | tr ' ' '-'
