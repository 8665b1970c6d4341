# Runs as root: what is the machine's, not the repository's.
fail() { printf '%s\n' "$*" >&2; exit 1; }

command -v git >/dev/null || fail 'There is no git in the machine. Add git to the image.'
[ -r "$mirror/HEAD" ] || fail "The mirror of $url is not in the machine at $mirror."

mine=$etc/errand/git-$name
set -- "$etc/errand" "$dir"
if ! [ -e "$dir/.git" ] && ! [ -L "$dir/.git" ]; then
	for d in $git_dirs; do set -- "$@" "$dir/.git/$d"; done
fi
dirs "$@"
first "$mine"
case $gitconfig in
"$line
"*) ;;
*) printf '%s' "$gitconfig" >"$mine" ;;
esac
all "$etc/gitconfig"
case $text in
*"path = $mine
"*) ;;
*) printf '\n[include]\n\tpath = %s\n' "$mine" >>"$etc/gitconfig" ;;
esac

# as_user runs a script as the one who owns the checkout.
as_user() {
	if [ -z "$user" ]; then
		eval "$1"
		exit
	fi
	[ -e "$dir/.git/errand/ready" ] || chown -R "$user" "$dir"
	case $user in
	[0-9]*)
		uid=${user%%:*} gid=${user#*:}
		HOME=$dir
		export HOME
		exec setpriv --reuid="$uid" --regid="$gid" --clear-groups sh -c "$1"
		;;
	esac
	exec su -s /bin/sh -c "$1" "$user"
}
