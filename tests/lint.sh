#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Static analysis: a tool, a test. What a tool says is a failure, but for what tests/lint/* excuse
# with a reason. A tool that is not installed is skipped, under CI (CI is set) it is a failure.
# shellcheck disable=SC2317  # `run` calls the functions by their names
set -eu
export LC_ALL=C.UTF-8
cd "$(dirname -- "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
jobs=$(nproc)
n=0
failed=0

# What configure and make would define, so that no build is needed.
cat >"$tmp/config.h" <<'EOT'
#define PACKAGE_STRING "tailban 0"
#define PACKAGE_VERSION "0"
#define SYSCONFDIR "/etc"
#define PKGDATADIR "/usr/share/tailban"
#define LOCALSTATEDIR "/var"
#define RUNSTATEDIR "/run"
EOT
# Headers of libraries are not read by cppcheck, but this loop has to be known.
cat >"$tmp/cppcheck.h" <<'EOT'
#define json_array_foreach(a, i, v) \
	for (i = 0; i < json_array_size(a) && (v = json_array_get(a, i)) != NULL; i++)
EOT
flags="-std=gnu17 -D_GNU_SOURCE -I. -I$tmp -include $tmp/config.h $(
	pkg-config --cflags libmnl libnftnl libpcre2-8 jansson libcap-ng 2>/dev/null || :)"

# judge NAME TEXT: a pass when there is no text.
judge() {
	n=$((n + 1))
	if [ -z "$2" ]; then
		echo "ok $n - $1"
		return
	fi
	echo "not ok $n - $1"
	printf '%s\n' "$2" | head -n 200 | sed 's/^/# /'
	failed=1
}

# run TOOL PACKAGE FUNCTION NAME: the function says what is wrong, or ends with a status.
run() {
	if command -v "$1" >/dev/null 2>&1; then
		said=$("$3" 2>&1) || said="$said
$1 ended with status $?"
		judge "$1: $4" "$said"
	elif [ -n "${CI-}" ]; then
		judge "$1: $4" "not installed (Debian: $2)"
	else
		n=$((n + 1))
		echo "ok $n - $1: $4 # SKIP not installed (Debian: $2)"
	fi
}

sources() {
	find "$@" -name '*.c' | sort
}

# The findings (FILE:LINE:COLUMN: warning: ... [CHECK]) of standard input that
# tests/lint/analyzers.txt does not know.
unknown() {
	awk -v top="$PWD/" '
	BEGIN {
		while ((getline line < "tests/lint/analyzers.txt") > 0)
			if (line !~ /^(#|$)/) {
				gsub(/[ \t]+/, " ", line)
				known[line]
			}
	}
	$0 !~ /^[^:]+:[0-9]+:[0-9]+: (fatal error|error|warning): / { next }
	{
		split(index($0, top) == 1 ? substr($0, length(top) + 1) : $0, at, ":")
		check = $0
		sub(/.*\[/, "", check)
		sub(/\].*/, "", check)
		text = ""
		for (i = 0; i < at[2] && (getline text < at[1]) > 0; i++)
			;
		close(at[1])
		gsub(/[ \t]+/, " ", text)
		sub(/^ /, "", text)
		if (!(at[1] " " check " " text in known) && !said[$0]++)
			print $0 "\n    " text
	}'
}

# each COMMAND: the command once a source file, which is its $1; a line more when it fails.
each() {
	mkdir "$tmp/said"
	sources daemon client | xargs -P "$jobs" -n 1 sh -c "
		{ $1; } >>'$tmp/said/'\$\$ 2>&1 ||
			echo \"\$1:1:1: error: the tool failed [status \$?]\" >>'$tmp/said/'\$\$" sh || :
	cat "$tmp"/said/*
	rm -r "$tmp/said"
}

cppcheck_all() {
	cppcheck -q -j "$jobs" --std=c11 --language=c --enable=warning,style,performance,portability \
		--suppressions-list=tests/lint/cppcheck.txt --error-exitcode=1 \
		--template='{file}:{line}: {severity}: {message} [{id}]' -I. -D_GNU_SOURCE \
		--include="$tmp/cppcheck.h" daemon client tests
}

tidy() {
	each "clang-tidy -quiet \"\$1\" -- $flags" | unknown
}

# Leaks: gcc 12 loses sight of what is stored behind a pointer to a struct. LeakSanitizer sees them.
analyzer() {
	each "gcc $flags -O1 -fanalyzer -Wno-analyzer-malloc-leak -fdiagnostics-plain-output \
		-c -o /dev/null \"\$1\"" | unknown
}

scripts() {
	find . -maxdepth 1 -type f \( -name quickstart -o -name '*.sh' \)
	find tests -name '*.sh'
	for script in .ci/run etc/completions/bash/tailban; do
		[ ! -f "$script" ] || echo "$script"
	done
}

shellcheck_all() {
	scripts | xargs shellcheck
}

manuals() {
	mandoc -Tlint -Wwarning doc/*.[0-9]
}

spelling() {
	find daemon client tests filters actions doc etc ./*.md quickstart configure.ac -type f \
		! -path 'tests/corpus/*' ! -path 'tests/fuzz/seeds/*' ! -name '*.pyc' -print0 |
		xargs -0 codespell -I tests/lint/codespell.txt
}

layout() {
	find daemon client tests -name '*.[ch]' -print0 |
		xargs -0 clang-format --dry-run -Werror --ferror-limit=1
}

licences() {
	find daemon client tests -name '*.[ch]' | sort | while read -r file; do
		head -n 1 "$file" | grep -qx '/\* SPDX-License-Identifier: GPL-2.0-or-later \*/' ||
			echo "$file: the first line is not the SPDX line"
	done
}

# Calls that know no size, keep hidden state or hide errors.
forbidden() {
	grep -rnE --include='*.[ch]' \
		'(^|[^[:alnum:]_])(strcpy|stpcpy|strcat|v?sprintf|gets|ato[ifl]|atoll|strtok(_r)?|alloca) ?\(' \
		daemon client || :
}

echo "1..9"
run cppcheck cppcheck cppcheck_all "daemon, client and tests"
run clang-tidy clang-tidy tidy "daemon and client"
run gcc gcc analyzer "-fanalyzer of daemon and client"
run shellcheck shellcheck shellcheck_all "all shell scripts"
run mandoc mandoc manuals "the manual pages"
run codespell codespell spelling "words"
run clang-format clang-format layout "daemon, client and tests"
judge "every C file begins with its licence" "$(licences)"
judge "no forbidden call in daemon and client" "$(forbidden)"
exit $failed
