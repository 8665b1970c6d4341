set -eu
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_NAMESPACE
export LC_ALL=C GIT_TERMINAL_PROMPT=0
cd "$dir"

head=$(git rev-parse -q --verify HEAD) || {
	echo "There is no commit in $dir to push." >&2
	exit 1
}
tip=$(git rev-parse -q --verify "refs/heads/$branch") || tip=
what=$tip
if [ "$head" != "$tip" ]; then
	if [ -z "$tip" ] || git merge-base --is-ancestor "$tip" "$head"; then
		what=$head
	elif ! git merge-base --is-ancestor "$head" "$tip"; then
		echo "errand-notice The machine stands at $head, which is not part of $branch and was not pushed."
	fi
fi
# The repository's own pre-push hook is for its people, not for this.
git -c core.hooksPath=/dev/null push --no-verify origin "$what:refs/heads/$branch"
printf 'errand-head %s %s\n' "$what" "$branch"
