/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counters of listeners: see netstat.h. */
#include "daemon/sockets/netstat.h"
#include "daemon/base/slice.h"
#include "daemon/sockets/proc.h"

#define NETSTAT_BYTES 16384u

static const struct {
	const char *name;
	size_t offset;
} counters[] = {
#define ROW(field, name) {name, offsetof(struct netstat, field)},
	NETSTAT_COUNTERS(ROW)
#undef ROW
};

static void take(struct netstat *s, struct slice name, struct slice value)
{
	for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
		uint64_t n;

		if (slice_eq(name, slice_str(counters[i].name)) &&
		    slice_u64(value, UINT64_MAX, &n) == 0)
			memcpy((char *)s + counters[i].offset, &n, sizeof n);
	}
}

/* "TcpExt: NAME ..." and, on the next line, "TcpExt: VALUE ...". */
static void take_lines(struct netstat *s, struct slice names, struct slice values)
{
	struct slice name, value;

	if (!slice_starts(names, SLICE("TcpExt:")))
		return;
	while (slice_next(&names, " ", &name) && slice_next(&values, " ", &value))
		take(s, name, value);
}

struct netstat_counter netstat_counter(const struct netstat *n, unsigned index)
{
	struct netstat_counter c = {counters[index].name, 0};

	memcpy(&c.value, (const char *)n + counters[index].offset, sizeof c.value);
	return c;
}

int netstat_read(pid_t pid, struct netstat *ret_netstat)
{
	static char buf[NETSTAT_BYTES];
	ssize_t n = proc_read(pid, "net/netstat", buf, sizeof buf);
	struct slice rest, names, values;

	*ret_netstat = (struct netstat){0};
	if (n < 0)
		return (int)n;
	rest = slice_of(buf, (size_t)n);
	while (slice_next(&rest, "\n", &names) && slice_next(&rest, "\n", &values))
		take_lines(ret_netstat, names, values);
	return 0;
}
