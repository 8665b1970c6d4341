# Says where an editor for browsers is, and fails where there is none.
for name in code-server openvscode-server; do
	if command -v "$name"; then exit 0; fi
done
for file in \
	"$HOME/.local/bin/code-server" \
	/opt/code-server/bin/code-server \
	/usr/lib/code-server/bin/code-server \
	/opt/openvscode-server/bin/openvscode-server \
	/home/.openvscode-server/bin/openvscode-server; do
	if [ -x "$file" ]; then echo "$file"; exit 0; fi
done
exit 1
