/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources of a configuration: see sources.h. Memory is the arena's; nothing fails. */
#include "daemon/config/sources.h"

static bool same_logs(const struct source_conf *s, const struct jail_conf *j)
{
	bool tail = j->nlogpaths && j->logpath_tail[0];

	if (s->backend != j->backend || s->npatterns != j->nlogpaths || s->tail != tail)
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

struct source_conf *sources_list(const struct conf *conf, struct arena *arena, size_t *ret_n)
{
	struct source_conf *list = arena_array(arena, conf->njails, sizeof *list);
	size_t n = 0;

	for (size_t i = 0; i < conf->njails; i++) {
		const struct jail_conf *j = &conf->jails[i];
		struct source_conf *s = find(list, n, j);
		uint16_t index = (uint16_t)i;

		if (!s) {
			s = &list[n++];
			s->name = j->nlogpaths ? j->logpaths[0].text : "stdin";
			s->patterns = j->logpaths;
			s->npatterns = j->nlogpaths;
			s->backend = j->backend;
			s->tail = j->nlogpaths && j->logpath_tail[0];
		}
		s->jails = arena_append(arena, s->jails, s->njails, sizeof index, &index);
		s->njails++;
	}
	*ret_n = n;
	return list;
}
