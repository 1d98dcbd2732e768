/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine: reads what attackers write, decides, and may do nothing else.
 *
 * It runs as its own user with no capability; logs, the inotify watches of unreadable files and the
 * listening control socket come from the enforcer. It ends when its channel ends.
 */
#ifndef TAILBAN_ENGINE_ENGINE_H
#define TAILBAN_ENGINE_ENGINE_H

/* `start` is a struct engine_start (enforcer/protocol.h), fd its end of the channel. Runs until the
 * enforcer says stop or is gone, or stdin has ended; the process's exit status. For process_spawn.
 */
int engine_run(void *start, int fd);

#endif
