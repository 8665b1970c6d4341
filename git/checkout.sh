# Brings a repository that is there to where it should be. Runs as the owner of
# the checkout. .git/errand/url is there once our part of .git is whole,
# .git/errand/ready once the tree is; it holds what it is for.
#
# Shell built-ins where it can be, since a process costs 20 ms under gVisor; and
# little to read, since read takes a byte at a time.
set -eu
umask 022
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_NAMESPACE
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_LFS_SKIP_SMUDGE=1
cd "$dir"

# first reads a file's first line into $line, empty where there is none.
first() { line=; [ ! -r "$1" ] || read -r line <"$1" || :; }
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

quiet() { git -c core.hooksPath=/dev/null -c advice.detachedHead=false "$@"; }

# Whether what is there is another repository: it came from elsewhere, and its
# history is none of the commit's, as far as it can be read at all. Where it was
# borrowed from need not be in this machine.
another() {
	first .git/errand/url
	[ -n "$line" ] || line=$(git config --local remote.origin.url) || line=
	[ -n "$line" ] && [ "$line" != "$url" ] || return 1
	! GIT_ALTERNATE_OBJECT_DIRECTORIES=$mirror/objects git merge-base HEAD "$commit" >/dev/null 2>&1
}

if [ -e .git ] || [ -L .git ]; then
	if [ ! -d .git ] || { [ -s .git/HEAD ] && ! [ -e .git/errand/url ] && ! git rev-parse -q --git-dir >/dev/null 2>&1; }; then
		echo "What was at $dir/.git is no repository; it is kept as .git-before-errand."
		rm -rf .git-before-errand
		mv .git .git-before-errand
	fi
fi
[ -s .git/HEAD ] || exit 75
! another || exit 76
first .git/errand/ready
[ "$line" != "$goal" ] || exit 0

# What borrowing from the mirror takes. A mirror that is not in this machine is
# given up.
borrow() {
	text=$mirror/objects
	[ ! -r .git/objects/info/alternates ] || while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		"$mirror/objects") continue ;;
		/*) [ -d "$line" ] || continue ;;
		esac
		text=$text'
'$line
	done <.git/objects/info/alternates
	printf '%s\n' "$text" >.git/objects/info/alternates
	# The remote itself may be a clone whose history is cut off.
	[ ! -s "$mirror/shallow" ] || cat "$mirror/shallow" >.git/shallow
}

making=
install_hook() {
	to=.git/hooks/prepare-commit-msg
	if [ -e "$to" ]; then
		{ read -r line && read -r line; } <"$to" || line=
		case $line in
		'# Written by Errand'*) [ ! -x "$to" ] || return 0 ;;
		*) mv -f "$to" "$to.own" ;;
		esac
	fi
	printf '%s' "$hook" >"$to"
	# Beside the tree, which takes longer.
	chmod +x "$to" &
	making=$!
}

# The mirror's branches become origin's, in one file, which $refs is a copy of.
remote_refs() {
	first .git/packed-refs
	case $line in
	'' | "$ours")
		if [ -n "$line" ] && [ ! "$mirror/packed-refs" -nt .git/packed-refs ]; then
			return 0
		fi
		cp "$refs" .git/packed-refs.errand
		# What stands outside of the file would hide what is in it.
		for f in .git/refs/remotes/origin/*; do
			[ "$f" = .git/refs/remotes/origin/HEAD ] || [ ! -e "$f" ] || rm -rf "$f"
		done
		mv -f .git/packed-refs.errand .git/packed-refs
		;;
	*)
		quiet fetch -q --prune "$mirror" '+refs/heads/*:refs/remotes/origin/*' ||
			echo "The remote branches could not be brought up to date; run git fetch."
		;;
	esac
	remote_head
}

remote_head() {
	first "$mirror/HEAD"
	put .git/refs/remotes/origin/HEAD "ref: refs/remotes/origin/${line#ref: refs/heads/}"
}

# A local branch for the base, unless somebody has moved it.
base_branch() {
	[ -n "$base" ] || return 0
	first ".git/refs/heads/$base"
	now=$line
	if [ -z "$now" ]; then
		first .git/packed-refs
		[ "$line" = "$ours" ] || now=$(quiet rev-parse -q --verify "refs/heads/$base") || now=
	fi
	first .git/errand/base
	if [ -n "$now" ] && [ "$line" != "$base $now" ]; then
		return 0
	fi
	file=.git/refs/heads/$base
	dirs "${file%/*}"
	put "$file" "$commit"
	put .git/errand/base "$base $commit"
}

adopt() {
	dirs .git/objects/info .git/refs/remotes/origin .git/hooks .git/errand
	borrow
	quiet config remote.origin.url "$url"
	quiet config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'
	quiet config --replace-all include.path errand/config '^errand/config$'
	put .git/errand/url "$url"
}

first .git/errand/url
[ "$line" = "$url" ] || adopt
for f in index HEAD config packed-refs refs/errand/set-aside "refs/heads/$branch"; do
	[ ! -e ".git/$f.lock" ] || rm -f ".git/$f.lock" # of a git that was killed
done
printf '%s' "$ownconfig" >.git/errand/config
install_hook
remote_refs
base_branch

exists() {
	[ -n "$branch" ] || return 1
	[ ! -s ".git/refs/heads/$branch" ] || return 0
	first .git/packed-refs
	[ "$line" != "$ours" ] || return 1
	quiet show-ref -q --verify "refs/heads/$branch"
}

# The tree moves to the commit. What was changed there stays; where that cannot
# be, it is kept under a ref.
move() {
	why=$(quiet checkout -q "$@" 2>&1) && return 0
	# Only once: after a kill what is there is partly the new commit's.
	if kept=$(quiet stash create 'Set aside by Errand') && [ -n "$kept" ] &&
		quiet update-ref refs/errand/set-aside "$kept" '' 2>/dev/null; then
		echo "Changes that were in the way are kept as refs/errand/set-aside: git stash apply refs/errand/set-aside"
	fi
	quiet checkout -q -f "$@"
}

first .git/HEAD
head=$line
if exists; then
	[ "$head" = "ref: refs/heads/$branch" ] || move "$branch" --
	quiet merge -q --ff-only "$commit" >/dev/null 2>&1 ||
		echo "The branch $branch could not be moved on to $commit; it stays where it is."
elif [ "$head" = "ref: $unborn" ]; then
	# The branch is written after all files: where it is, the tree is whole.
	if [ -n "$branch" ]; then
		quiet reset -q --hard "$commit"
	else
		quiet checkout -q -f --detach "$commit"
	fi
elif [ -z "$branch" ]; then
	move --detach "$commit" --
elif [ "$head" = "$commit" ]; then
	# Not checkout -b, which looks at every file of the tree.
	quiet update-ref "refs/heads/$branch" "$commit" '' # must be new
	put .git/HEAD "ref: refs/heads/$branch"
else
	move -b "$branch" "$commit" --
fi
[ -z "$making" ] || wait "$making"
put .git/errand/ready "$goal"
