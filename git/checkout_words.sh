# What both parts of a checkout use. Shell built-ins where it can be, since a
# process costs 20 ms under gVisor; and little to read, since read takes a byte
# at a time.
set -eu
umask 022

# first and all read a file into $line and $text, empty where there is none.
first() { line=; [ ! -r "$1" ] || read -r line <"$1" || :; }
all() {
	text=
	[ -r "$1" ] || return 0
	while IFS= read -r line; do
		text=$text$line'
'
	done <"$1"
}
put() { printf '%s\n' "$2" >"$1"; }

# dirs makes directories, in one call, if one of them is missing.
dirs() {
	for d; do
		if ! [ -d "$d" ]; then
			mkdir -p "$@"
			return
		fi
	done
}

# What a repository needs in .git, and what we do.
git_dirs='objects/info objects/pack refs/heads refs/tags refs/remotes/origin hooks info errand'

