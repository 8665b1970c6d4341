# Runs as root: what is the machine's, not the repository's. Only shell
# built-ins where it can be, since under gVisor a process costs 20 ms.
set -eu
umask 022

fail() { printf '%s\n' "$*" >&2; exit 1; }

command -v git >/dev/null || fail 'There is no git in the machine. Add git to the image.'
[ -r "$mirror/HEAD" ] || fail "The mirror of $url is not in the machine at $mirror."

mine=$etc/errand/git-$name
same() { [ -r "$1" ] && { read_all <"$1"; [ "$text" = "$2" ]; }; }
read_all() { text=; while IFS= read -r line; do text=$text$line'
'; done; }

{ [ -d "$etc/errand" ] && [ -d "$dir" ]; } || mkdir -p "$etc/errand" "$dir"
same "$mine" "$gitconfig" || printf '%s' "$gitconfig" >"$mine"
text=
[ ! -r "$etc/gitconfig" ] || read_all <"$etc/gitconfig"
case $text in
*"path = $mine
"*) ;;
*) printf '\n[include]\n\tpath = %s\n' "$mine" >>"$etc/gitconfig" ;;
esac

# as_user runs a script as the one who owns the checkout.
as_user() {
	if [ -z "$user" ]; then
		exec sh -c "$1"
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
