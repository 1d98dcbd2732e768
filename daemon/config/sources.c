/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources of a configuration: see sources.h. Memory is the arena's; nothing fails. */
#include "daemon/config/sources.h"

static bool same_logs(const struct source_conf *s, const struct jail_conf *j)
{
	bool tail = j->nlogpaths && j->logpath_tail[0];

	if (s->npatterns != j->nlogpaths)
		return false;
	if (j->backend != BACKEND_SOCKETS && (s->backend != j->backend || s->tail != tail))
		return false;
	for (size_t i = 0; i < s->npatterns; i++)
		if (strcmp(s->patterns[i].text, j->logpaths[i].text) != 0)
			return false;
	return true;
}

static struct source_conf *find(struct source_conf *list, size_t n, const struct jail_conf *j)
{
	for (size_t i = 0; i < n; i++)
		if (same_logs(&list[i], j))
			return &list[i];
	return NULL;
}

static void start(struct source_conf *s, const struct jail_conf *j)
{
	bool sockets = j->backend == BACKEND_SOCKETS;

	s->name = j->nlogpaths ? j->logpaths[0].text : "stdin";
	s->patterns = j->logpaths;
	s->npatterns = j->nlogpaths;
	s->backend = sockets ? BACKEND_AUTO : j->backend;
	s->tail = sockets || (j->nlogpaths && j->logpath_tail[0]);
}

/* Log jails come first, so that sockets jails find their sources and stand behind them. */
static size_t add_jails(const struct conf *conf, bool sockets, struct arena *arena,
			struct source_conf *list, size_t n)
{
	for (size_t i = 0; i < conf->njails; i++) {
		const struct jail_conf *j = &conf->jails[i];
		uint16_t index = (uint16_t)i;
		struct source_conf *s;

		if (sockets != (j->backend == BACKEND_SOCKETS) || (sockets && !j->nlogpaths))
			continue;
		s = find(list, n, j);
		if (!s) {
			s = &list[n++];
			start(s, j);
		}
		s->jails = arena_append(arena, s->jails, s->njails++, sizeof index, &index);
		s->nreaders += !sockets;
	}
	return n;
}

struct source_conf *sources_list(const struct conf *conf, struct arena *arena, size_t *ret_n)
{
	struct source_conf *list = arena_array(arena, conf->njails, sizeof *list);
	size_t n = add_jails(conf, false, arena, list, 0);

	*ret_n = add_jails(conf, true, arena, list, n);
	return list;
}
