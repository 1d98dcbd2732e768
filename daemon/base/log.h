/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's own log: levels, a subsystem token, one line a call.
 *
 * Targets: stderr (with "<N>" priority marks when systemd reads it), a file, or syslog. A file that
 * cannot be opened is an error at start; a write that fails later is counted and dropped.
 * Attackers' bytes in arguments must have gone through escape_text. The state is one per process (a
 * log is a process-wide thing); children inherit it over fork. Thread-unsafe, as the processes have
 * one thread.
 */
#ifndef TAILBAN_BASE_LOG_H
#define TAILBAN_BASE_LOG_H

#include "daemon/base/error.h"
#include "daemon/base/slice.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* "error", "warning", "notice", "info", "debug" and fail2ban's upper-case names. 0 or -EINVAL. */
int log_level_parse(struct slice name, enum log_level *ret_level);

/* target: "STDERR", "STDOUT", "SYSLOG", or a path (opened for appending, 0640). 0 or errno. */
int log_open(const char *target, enum log_level level, struct error *err);

/* Opens a file target again (after rotation of our own log); others do nothing. */
void log_reopen(void);

/* The descriptor that a child must keep to go on logging, or -1. */
int log_fd(void);

void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* token: "firewall", "source", ... printed in front: "firewall: text". */
__attribute__((format(printf, 3, 4))) void log_write(enum log_level level, const char *token,
						     const char *format, ...);

#define log_error(token, ...) log_write(LOG_LEVEL_ERROR, token, __VA_ARGS__)
#define log_warning(token, ...) log_write(LOG_LEVEL_WARNING, token, __VA_ARGS__)
#define log_notice(token, ...) log_write(LOG_LEVEL_NOTICE, token, __VA_ARGS__)
#define log_info(token, ...) log_write(LOG_LEVEL_INFO, token, __VA_ARGS__)
#define log_debug(token, ...)                                                                      \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_write(LOG_LEVEL_DEBUG, token, __VA_ARGS__);                            \
	} while (0)

/*
 * From now on lines below warning are written together: when the buffer is full, before a warning
 * or an error, and at log_flush, which the process calls before it waits. A burst of 2,000 bans
 * then costs a few writes. What a crash leaves unwritten is of its last wake-up.
 */
void log_batch(void);
void log_flush(void);

/* Gate for a message that an attacker can repeat: true at most `burst` times per `period_s`. */
struct log_gate {
	int64_t start_ns;
	unsigned count;
	uint64_t held_back; /* since the last message; the caller may print and zero it */
};
bool log_gate_open(struct log_gate *gate, int64_t mono_ns, unsigned burst, unsigned period_s);

#endif
