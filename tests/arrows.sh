#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The tree's arrows go one way: which room may include which, and which file alone may include a library.
set -eu
export LC_ALL=C
cd "${srcdir:-.}"
[ -d daemon/base ] || { echo "1..1"; echo "not ok 1 - srcdir is the source tree"; exit 1; }
n=0
failed=0

# ok NAME LINES: the offending lines; none is a pass.
ok() {
	n=$((n + 1))
	if [ -z "$2" ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		echo "$2" | sed 's/^/# /'
		failed=1
	fi
}

# only ROOM ROOMS...: files of a room include headers of these rooms (and its own) only.
only() {
	room=$1
	shift
	allowed=$(printf '%s\n' "$room" "$@" | paste -sd'|')
	ok "daemon/$room includes only: $room $*" \
		"$(grep -HnE '^#include "daemon/[a-z]+/' "daemon/$room"/*.[ch] |
			grep -vE "#include \"daemon/($allowed)/" || :)"
}

# alone HEADER FILES...: a library's header is included by these files only.
alone() {
	header=$1
	shift
	allowed=$(printf '%s\n' "$@" | paste -sd'|')
	ok "<$header> is included only by: $*" \
		"$(grep -rnE "#include <$header" daemon client | grep -vE "^($allowed):" || :)"
}

echo "1..16"
only base
only config base
only source base
only filter base
only jail base
only sockets base
only control base jail
only enforcer base config jail sockets
only engine base config source filter jail sockets control enforcer
alone inotifytools daemon/source/watch.c
alone pcre2.h daemon/filter/pattern.c
alone libnftnl 'daemon/enforcer/firewall[a-z_]*\.[ch]'
alone jansson.h 'daemon/control/.*' 'daemon/engine/view\.c' 'client/.*'
ok "the client knows of the engine the detector, of the enforcer the protocol" \
	"$(grep -rnE '#include "daemon/(engine|enforcer)/' client |
		grep -vE 'daemon/engine/detector\.h|daemon/enforcer/protocol\.h' || :)"
ok "client includes only: base config filter jail sockets source (and of engine and enforcer these)" \
	"$(grep -rnE '#include "daemon/' client |
		grep -vE '#include "daemon/(base|config|engine|enforcer|filter|jail|sockets|source)/' || :)"
ok "the engine knows of the enforcer the protocol and the runner's words" \
	"$(grep -nE '#include "daemon/enforcer/' daemon/engine/*.[ch] |
		grep -vE 'daemon/enforcer/(protocol|runner)\.h' || :)"
exit $failed
