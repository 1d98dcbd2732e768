/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The INI parser from memory: every value of what was taken is interpolated, put through
 * parameters, split. */
#include "daemon/config/ini.h"
#include "daemon/config/times.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_INPUT                                                                                  \
	16384 /* more only makes a run slow: limits are far above, and unit tests reach them */
#define MAX_VALUES 40

struct lookup {
	const struct ini *ini;
	const char *section;
};

static int find(void *context, struct slice name, const char **ret_value, struct error *err)
{
	const struct lookup *l = context;
	const struct ini_value *v =
		ini_get(l->ini, l->section, arena_slicedup(l->ini->arena, name));
	int r = v ? ini_expand(l->ini, l->section, v, NULL, 0, ret_value, err) : 0;

	return r ? r : v != NULL;
}

static void use_value(const struct ini *ini, const char *section, const struct ini_value *v)
{
	struct lookup lookup = {ini, section};
	struct text_at text = {NULL, v->file, v->line}, *lines;
	struct ini_spec *specs;
	struct error err = {0};
	const char *out;
	int64_t seconds;

	ini_lines(ini, section, v, NULL, 0, &lines, &err);
	if (ini_expand(ini, section, v, NULL, 0, &text.text, &err))
		return;
	times_parse(slice_str(text.text), &seconds);
	ini_specs(ini->arena, &text, &specs, &err);
	ini_substitute(ini->arena, &text, find, &lookup, &out, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = {0};
	struct conf_errors errs = {0};
	struct ini ini;
	unsigned used = 0;

	if (size > MAX_INPUT)
		return 0;
	ini_init(&ini, &arena);
	ini_parse(&ini, "fuzz.conf", slice_of((const char *)data, size), &errs);
	for (size_t s = 0; s < ini.count; s++)
		for (size_t o = 0; o < ini.sections[s].count && used++ < MAX_VALUES; o++)
			use_value(&ini, ini.sections[s].name, ini.sections[s].options[o].value);
	conf_errors_free(&errs);
	arena_free(&arena);
	return 0;
}
