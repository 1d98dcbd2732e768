#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What an administrator writes in the night of the attack, for comparison: once a second every peer
# with more than LIMIT established connections to PORT is dropped for an hour and its connections
# are killed. Needs root, nft and ss. Not part of tailban.
#
#   loop.sh PORT [LIMIT]
set -eu
port=$1
limit=${2-15}

nft -f - <<-'EOT'
	table inet loop {
		set ban4 { type ipv4_addr; flags timeout; }
		set ban6 { type ipv6_addr; flags timeout; }
		chain pre {
			type filter hook prerouting priority -300;
			ip saddr @ban4 drop
			ip6 saddr @ban6 drop
		}
	}
EOT

while :; do
	ss -Htn state established sport = ":$port" |
		awk -v limit="$limit" '{
			sub(/:[0-9]+$/, "", $4)
			if (++count[$4] == limit + 1)
				print $4
		}' |
		while read -r peer; do
			case $peer in
			\[::ffff:*) ban="ban4 { ${peer#*ffff:}" ;;
			*:*) ban="ban6 { $peer" ;;
			*) ban="ban4 { $peer" ;;
			esac
			nft add element inet loop "$(echo "$ban" | tr -d '[]') timeout 1h }"
			ss -K dst "$peer" sport = ":$port" >/dev/null 2>&1 || :
		done
	sleep 1
done
