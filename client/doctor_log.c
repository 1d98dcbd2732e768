/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a log: are its dates right, and does it name more than one client? See doctor.h.
 *
 * Only the last TAIL_BYTES are read. A date is compared with the time of the last write, which is
 * when that line was written, so an idle log is no false alarm. An address counts when the line
 * begins with it, as in every access log.
 */
#include "client/doctor.h"
#include "daemon/base/error.h"
#include "daemon/base/escape.h"
#include "daemon/engine/detector.h"
#include "daemon/filter/date.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_BYTES (256u << 10)
#define LINES_LEAST 20u            /* from one address: before that it says nothing */
#define ZONE_S 900                 /* time zones differ by quarters of an hour */
#define ZONES_END_S INT64_C(54000) /* the furthest is 14 hours from UTC */
#define EMFILE_TEXT "Too many open files"

struct tail {
	struct stat st;
	int64_t now_s;
	uint64_t lines, addressed, emfile;
	struct addr first;
	bool several;
	struct slice last;
};

const char *doctor_plain_path(const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_@%+=:,./-";

	return path[0] && path[0] != '-' && !path[strspn(path, plain)] ? path : "LOG";
}

/* --- reading ---------------------------------------------------------------------------------- */

static void take_line(struct tail *t, struct slice line)
{
	struct slice rest = line, word;
	struct addr a;

	t->lines++;
	t->last = line;
	t->emfile += line.n && memmem(line.p, line.n, EMFILE_TEXT, sizeof EMFILE_TEXT - 1) != NULL;
	if (!slice_next(&rest, " ", &word) || addr_parse(word, &a) < 0)
		return;
	if (!t->addressed)
		t->first = a;
	t->several |= !addr_eq(&a, &t->first);
	t->addressed++;
}

/* The whole lines of the end; what comes before the first \n is a piece of a line. */
static void take_text(struct tail *t, struct slice text, bool from_start)
{
	struct slice line;
	size_t end = text.n;

	while (end && text.p[end - 1] != '\n')
		end--;
	text.n = end;
	if (!from_start)
		text = slice_skip(text, slice_find(text, '\n') + 1);
	while (text.n && slice_next(&text, "\n", &line))
		take_line(t, line);
}

static int read_tail(int fd, struct tail *t, char *buf)
{
	off_t at;
	ssize_t n;

	if (fstat(fd, &t->st) < 0)
		return -errno;
	if (!S_ISREG(t->st.st_mode))
		return -EINVAL;
	at = t->st.st_size > (off_t)TAIL_BYTES ? t->st.st_size - (off_t)TAIL_BYTES : 0;
	n = pread(fd, buf, TAIL_BYTES, at);
	if (n < 0)
		return -errno;
	take_text(t, slice_of(buf, (size_t)n), at == 0);
	return 0;
}

/* --- judging ---------------------------------------------------------------------------------- */

static void judge_size(struct doctor *d, const struct tail *t, const char *name)
{
	char size[TEXT_TIME_BYTES], ago[TEXT_TIME_BYTES];

	findings_add(&d->findings, FINDING_OK, DOCTOR_LOGS, "log",
		     "%s: %s, written %s ago; %" PRIu64 " of its last %" PRIu64
		     " lines begin with an address%s",
		     name, text_bytes((uint64_t)t->st.st_size, size),
		     text_duration(t->now_s - t->st.st_mtime, ago), t->addressed, t->lines,
		     t->several ? ", not all with the same" : "");
}

static void judge_addresses(struct doctor *d, const struct tail *t, const char *name)
{
	char addr[ADDR_STRLEN];
	bool own;

	if (t->several || t->addressed < LINES_LEAST)
		return;
	own = doctor_is_own(d, &t->first);
	addr_format(&t->first, addr);
	findings_add(
		&d->findings, FINDING_WARN, DOCTOR_LOGS, "one address",
		"%s: all of the last %" PRIu64 " addresses are %s: %s. Then no client is named "
		"and none can be banned",
		name, t->addressed, addr,
		own ? "a proxy on this host writes to the service" : "a proxy, if it is no client");
	findings_remedy(
		&d->findings,
		"follow the proxy's own log, or let the application see the client (werkzeug: "
		"ProxyFix) and set trusted_proxy = %s",
		addr);
}

static void say_off(struct doctor *d, int64_t off_s, const char *name)
{
	char by[TEXT_TIME_BYTES];
	int64_t size_s = off_s < 0 ? -off_s : off_s;
	int64_t rest_s = size_s % ZONE_S;
	bool zone = size_s > ZONE_S / 2 && size_s < ZONES_END_S &&
		    (rest_s < DETECTOR_OFF_BY_S || ZONE_S - rest_s < DETECTOR_OFF_BY_S);

	findings_add(&d->findings, FINDING_WARN, DOCTOR_LOGS, "dates",
		     "%s: its last line is dated %s %s it was written%s", name,
		     text_duration(size_s, by), off_s < 0 ? "before" : "after",
		     zone ? ": another time zone" : "");
	findings_remedy(
		&d->findings,
		zone ? "give the service and tailband the same TZ; until then its lines count "
		       "as written now"
		     : "set the clock of whoever writes it; until then its lines count as "
		       "written now");
}

static void judge_dates(struct doctor *d, const struct tail *t, const char *name)
{
	struct date_hit hit;
	struct date *date;
	int64_t off_s;

	if (!t->last.n || date_new(NULL, 0, &date, NULL) < 0)
		return;
	if (date_find(date, t->last, t->now_s, &hit)) {
		off_s = hit.time_s - t->st.st_mtime;
		if (off_s > DETECTOR_OFF_BY_S || off_s < -DETECTOR_OFF_BY_S)
			say_off(d, off_s, name);
	}
	date_free(date);
}

static void judge_emfile(struct doctor *d, const struct tail *t, const char *name)
{
	if (!t->emfile)
		return;
	findings_add(&d->findings, FINDING_WARN, DOCTOR_LOGS, "emfile",
		     "%s: %" PRIu64 " of its last lines say \"" EMFILE_TEXT
		     "\". The address beside them is a client that suffered, not the culprit",
		     name, t->emfile);
	findings_remedy(&d->findings, "see descriptors and silent");
}

static void judge(struct doctor *d, const struct tail *t, const char *path)
{
	char name[160];

	escape_text(name, sizeof name, slice_str(path));
	judge_size(d, t, name);
	judge_addresses(d, t, name);
	judge_dates(d, t, name);
	judge_emfile(d, t, name);
}

void doctor_log(struct doctor *d, const char *path)
{
	struct tail t = {.now_s = clock_wall_s(clock_now())};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r;
	char *buf = malloc(TAIL_BYTES), name[160];

	if (!buf)
		client_no_memory();
	r = fd < 0 ? -errno : read_tail(fd, &t, buf);
	if (r == 0)
		judge(d, &t, path);
	else
		findings_add(&d->findings, FINDING_WARN, DOCTOR_LOGS, "log",
			     "%s cannot be read by you: %s",
			     escape_text(name, sizeof name, slice_str(path)), error_name(r));
	if (fd >= 0)
		close(fd);
	free(buf);
}
