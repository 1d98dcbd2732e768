/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log: see log.h. Opening fails with errno and a sentence; writing drops. */
#include "daemon/base/log.h"
#include "daemon/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <strings.h>
#include <unistd.h>

enum target { TARGET_STDERR, TARGET_STDOUT, TARGET_SYSLOG, TARGET_FILE };

static struct {
	enum log_level level;
	enum target target;
	int fd;
	char path[256];
	bool marks; /* systemd reads our stderr and takes "<N>" as the priority */
	bool batch;
	size_t held; /* bytes in `buffer` */
	char buffer[16384];
} state = {.level = LOG_LEVEL_NOTICE, .target = TARGET_STDERR, .fd = STDERR_FILENO};

static const struct {
	const char *name, *alias;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", "CRITICAL", LOG_ERR},
	[LOG_LEVEL_WARNING] = {"warning", "WARN", LOG_WARNING},
	[LOG_LEVEL_NOTICE] = {"notice", "NOTICE", LOG_NOTICE},
	[LOG_LEVEL_INFO] = {"info", "INFO", LOG_INFO},
	[LOG_LEVEL_DEBUG] = {"debug", "HEAVYDEBUG", LOG_DEBUG},
};

int log_level_parse(struct slice name, enum log_level *ret_level)
{
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
		if ((strlen(levels[i].name) == name.n &&
		     !strncasecmp(levels[i].name, name.p, name.n)) ||
		    slice_eq_str(name, levels[i].alias)) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int open_file(const char *path, struct error *err)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);

	if (fd < 0)
		return error_set(err, -errno, "cannot open the log target '%s': %s", path,
				 strerror(errno));
	return fd;
}

int log_open(const char *target, enum log_level level, struct error *err)
{
	int fd = STDERR_FILENO;

	state.level = level;
	state.marks = getenv("JOURNAL_STREAM") != NULL;
	if (!strcmp(target, "SYSLOG")) {
		openlog("tailband", LOG_PID | LOG_NDELAY, LOG_DAEMON);
		state.target = TARGET_SYSLOG;
		return 0;
	}
	if (!strcmp(target, "STDOUT") || !strcmp(target, "STDERR")) {
		state.target = target[3] == 'O' ? TARGET_STDOUT : TARGET_STDERR;
		state.fd = target[3] == 'O' ? STDOUT_FILENO : STDERR_FILENO;
		return 0;
	}
	if (strlen(target) >= sizeof state.path)
		return error_set(err, -ENAMETOOLONG, "the log target's path is too long");
	fd = open_file(target, err);
	if (fd < 0)
		return fd;
	state.target = TARGET_FILE;
	state.fd = fd;
	memcpy(state.path, target, strlen(target) + 1);
	return 0;
}

void log_reopen(void)
{
	int fd;

	if (state.target != TARGET_FILE)
		return;
	fd = open_file(state.path, NULL);
	if (fd < 0)
		return;
	close(state.fd);
	state.fd = fd;
}

int log_fd(void)
{
	return state.target == TARGET_SYSLOG ? -1 : state.fd;
}

void log_set_level(enum log_level level)
{
	state.level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= state.level;
}

static size_t stamp(char *buf, size_t size, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	if (state.marks && state.target == TARGET_STDERR)
		return (size_t)snprintf(buf, size, "<%d>", levels[level].priority);
	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	n = strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm);
	return n + (size_t)snprintf(buf + n, size - n, ".%03ld %-7s ", ts.tv_nsec / 1000000,
				    levels[level].name);
}

static void put(const char *text, size_t n)
{
	ssize_t written;

	do
		written = write(state.fd, text, n);
	while (written < 0 && errno == EINTR);
}

void log_batch(void)
{
	state.batch = true;
}

void log_flush(void)
{
	if (state.held)
		put(state.buffer, state.held);
	state.held = 0;
}

static void put_line(enum log_level level, const char *line, size_t n)
{
	bool now = !state.batch || level <= LOG_LEVEL_WARNING;

	if (now || state.held + n > sizeof state.buffer)
		log_flush();
	if (now) {
		put(line, n);
		return;
	}
	memcpy(state.buffer + state.held, line, n);
	state.held += n;
}

void log_write(enum log_level level, const char *token, const char *format, ...)
{
	char line[2048];
	size_t n, head;
	va_list ap;

	if (!log_enabled(level))
		return;
	head = state.target == TARGET_SYSLOG ? 0 : stamp(line, 64, level);
	n = head + (size_t)snprintf(line + head, sizeof line - head, "%s: ", token);
	va_start(ap, format);
	n += (size_t)vsnprintf(line + n, sizeof line - n, format, ap);
	va_end(ap);
	if (n > sizeof line - 2)
		n = sizeof line - 2;
	line[n] = '\n';
	if (state.target == TARGET_SYSLOG)
		syslog(levels[level].priority, "%.*s", (int)n, line);
	else
		put_line(level, line, n + 1);
}

bool log_gate_open(struct log_gate *gate, int64_t mono_ns, unsigned burst, unsigned period_s)
{
	if (!gate->start_ns || mono_ns - gate->start_ns >= (int64_t)period_s * CLOCK_SECOND_NS) {
		gate->start_ns = mono_ns ? mono_ns : 1;
		gate->count = 0;
	}
	if (gate->count < burst) {
		gate->count++;
		return true;
	}
	gate->held_back++;
	return false;
}
