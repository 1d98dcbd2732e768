/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Durations as people write them in configuration and on the command line.
 *
 * `1h 30m`, `1h30m`, `1y 6mo 2w 3d 4h 5m 6s`, `90`, `2 * 1h + 5m`, `(1d + 2h) / 2`, `-1`. Terms
 * that stand side by side are added. Units: s, m, h, d, w, mo, y and the words fail2ban takes for
 * them (min, hours, days, ...), in either case. A year is 365.25 days and a month a twelfth of it.
 * A number without a unit is seconds; fractions are cut after the whole sum. Negative results are
 * legal here: what -1 means is the caller's business.
 */
#ifndef TAILBAN_CONFIG_TIMES_H
#define TAILBAN_CONFIG_TIMES_H

#include "daemon/base/slice.h"

#define TIMES_STRLEN 64 /* room for any formatted duration, terminator included */

/* 0, -EINVAL (no duration), -ERANGE (does not fit in 2^53 s). */
int times_parse(struct slice text, int64_t *ret_s);

/*
 * The same as text, exact, in y w d h m s: 5400 gives "1h 30m", 0 gives "0s"; negative values give
 * "ever". times_parse reads it back (but not "ever"). Cut when size is too small. Returns buf.
 */
const char *times_format(int64_t s, char *buf, size_t size);

#endif
