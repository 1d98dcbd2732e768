/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two clocks, read together once a wake-up and handed on as a value.
 *
 * Durations (ban ends, timers, back-off) use CLOCK_MONOTONIC, as the kernel's set timeouts do; wall
 * time is for people, log dates and what is stored. Stages take a struct now as an argument and
 * read no clock themselves, so tests live hours in microseconds.
 */
#ifndef TAILBAN_BASE_CLOCK_H
#define TAILBAN_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_SECOND_NS INT64_C(1000000000)
#define CLOCK_MSEC_NS INT64_C(1000000)
#define CLOCK_FOREVER INT64_MAX /* an end that never comes, in any unit */

struct now {
	int64_t mono_ns; /* CLOCK_MONOTONIC */
	int64_t wall_ns; /* CLOCK_REALTIME, since 1970 */
};

static inline struct now clock_now(void)
{
	struct timespec m, w;

	clock_gettime(CLOCK_MONOTONIC, &m);
	clock_gettime(CLOCK_REALTIME, &w);
	return (struct now){(int64_t)m.tv_sec * CLOCK_SECOND_NS + m.tv_nsec,
			    (int64_t)w.tv_sec * CLOCK_SECOND_NS + w.tv_nsec};
}

static inline int64_t clock_wall_s(struct now now)
{
	return now.wall_ns / CLOCK_SECOND_NS;
}

#endif
