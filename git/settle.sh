set -eu
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_NAMESPACE
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_EDITOR=true
notice() { printf 'errand-notice %s\n' "$*"; }
quiet() { git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.addEmbeddedRepo=false -c core.safecrlf=false "$@"; }

cd "$dir"
git=$(git rev-parse --absolute-git-dir 2>/dev/null) || exit 0

tell_head() {
	if id=$(git rev-parse -q --verify HEAD); then
		printf 'errand-head %s %s\n' "$id" "$(git symbolic-ref -q --short HEAD || :)"
	fi
}
stop() {
	notice "$*"
	tell_head
	exit 0
}

if [ -d "$git/rebase-merge" ] || [ -d "$git/rebase-apply" ]; then
	stop 'A rebase was left unfinished; what is not committed was left as it is.'
fi
if [ -n "$(git ls-files -u)" ]; then
	stop 'A merge with conflicts was left unfinished; what is not committed was left as it is.'
fi

# A git that was killed leaves its lock. While one runs here, the lock is its own.
if [ -e "$git/index.lock" ]; then
	running=
	for f in /proc/[0-9]*; do
		read -r name <"$f/comm" || continue
		[ "$name" != git ] || [ ! "$f/cwd" -ef "$dir" ] || running=1
	done 2>/dev/null
	[ -n "$running" ] || rm -f "$git/index.lock"
fi

# One line for each path to leave out: files above the bound, and repositories
# inside this one, which ls-files gives with a slash at the end.
left_out=$(
	git ls-files -z -o -m --exclude-standard | max=$max xargs -0 -r sh -c '
		for f do
			shift
			case $f in
			*/) printf "%s\n" "$f" ;;
			*) [ -L "./$f" ] || [ ! -f "./$f" ] || set -- "$@" "./$f" ;;
			esac
		done
		[ $# -eq 0 ] || find "$@" -prune -type f -size "+${max}c" -print
	' sh
)
set -- .
while IFS= read -r path; do
	path=${path#./}
	case $path in
	'') continue ;;
	*/) notice "$path is a repository of its own and was left out of the commit." ;;
	*) notice "$path is larger than $bound and was left out of the commit." ;;
	esac
	set -- "$@" ":(exclude,literal)${path%/}"
done <<END
$left_out
END

if ! why=$(quiet add -A -- "$@" 2>&1); then
	# One at a time, so that one that cannot be added keeps out no other.
	quiet ls-files -z -o -m --exclude-standard | max=$max xargs -0 -r sh -c '
		for f do
			case $f in */) continue ;; esac
			[ -L "./$f" ] || [ -z "$(find "./$f" -prune -type f -size "+${max}c" -print 2>/dev/null)" ] || continue
			git -c core.hooksPath=/dev/null --literal-pathspecs add -A -- "$f" >/dev/null 2>&1 || :
		done
	' sh
	notice "Some files could not be added: $(printf %s "$why" | tr '\n' ' ')"
fi
if ! quiet diff --cached --quiet || [ -e "$git/MERGE_HEAD" ]; then
	files=$(quiet diff --cached --name-only -z | tr -cd '\0' | wc -c)
	printf '%s' "$message" | quiet commit -q --no-verify --cleanup=whitespace -F -
	printf 'errand-commit %s %d %s\n' "$(git rev-parse HEAD)" "$files" "$title"
fi
tell_head
