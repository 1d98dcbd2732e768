/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notification of the service manager: see notify.h. Failures are ignored. */
#include "daemon/base/notify.h"
#include "daemon/base/slice.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify(const char *format, ...)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char text[512];
	va_list ap;
	size_t n;
	int fd;

	if (!name || (name[0] != '/' && name[0] != '@') || strlen(name) >= sizeof to.sun_path)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	n = strlen(name);
	memcpy(to.sun_path, name, n);
	if (name[0] == '@')
		to.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	close(fd);
}

uint64_t notify_watchdog_us(void)
{
	const char *pid = getenv("WATCHDOG_PID"), *period = getenv("WATCHDOG_USEC");
	uint64_t value;

	if (!period || slice_u64(slice_str(period), UINT64_MAX, &value) < 0)
		return 0;
	if (pid) {
		uint64_t meant;

		if (slice_u64(slice_str(pid), INT32_MAX, &meant) < 0 || meant != (uint64_t)getpid())
			return 0;
	}
	return value;
}
