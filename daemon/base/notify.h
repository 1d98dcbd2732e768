/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service manager's notification protocol (sd_notify(3)), without its library.
 *
 * The socket's name is read once from $NOTIFY_SOCKET; without it every call does nothing. Sending
 * fails silently: a missing manager must not stop a ban.
 */
#ifndef TAILBAN_BASE_NOTIFY_H
#define TAILBAN_BASE_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STATUS=...", "STOPPING=1", "WATCHDOG=1"; several joined by newlines. */
__attribute__((format(printf, 1, 2))) void notify(const char *format, ...);

/* The watchdog's period in microseconds from $WATCHDOG_USEC when it is meant for us, else 0. */
uint64_t notify_watchdog_us(void);

#endif
