/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding filter and action files: DIR/filter.d, then the shipped directory, which is filter.d when
 * installed and filters in a source tree. Fails with -ENOENT when no place has the file.
 */
#include "daemon/config/loader.h"
#include "daemon/config/suggest.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *installed, *source;
} folders[] = {
	[PLACE_FILTER] = {"filter.d", "filters"},
	[PLACE_ACTION] = {"action.d", "actions"},
};

static const char *shipped_folder(const struct place *place, enum place_kind kind)
{
	const char *path =
		arena_printf(place->arena, "%s/%s", place->datadir, folders[kind].installed);
	struct stat st;

	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return path;
	return arena_printf(place->arena, "%s/%s", place->datadir, folders[kind].source);
}

/* One file of a folder. 1 when it was read, 0 when it is not there, ERROR_CONFIG. */
static int read_one(struct ini *ini, const char *folder, const char *name, const char *tail,
		    struct conf_errors *errs, const char **ret_file)
{
	const char *path = arena_printf(ini->arena, "%s/%s%s", folder, name, tail);
	int r = ini_read(ini, path, errs);

	if (r == -ENOENT)
		return 0;
	if (!*ret_file)
		*ret_file = path;
	return r ? r : 1;
}

/* A path given by hand stands for itself. */
static int read_path(const struct place *place, enum place_kind kind, const char *path,
		     struct ini *ini, const char **ret_file, struct conf_errors *errs)
{
	ini->behind = shipped_folder(place, kind);
	*ret_file = path;
	return ini_read(ini, path, errs);
}

int place_read(const struct place *place, enum place_kind kind, const char *name,
	       struct ini *ret_ini, const char **ret_file, struct conf_errors *errs)
{
	const char *shipped = shipped_folder(place, kind), *own = NULL;
	int base = 0, local = 0, over = 0;

	ini_init(ret_ini, place->arena);
	*ret_file = NULL;
	if (strchr(name, '/'))
		return read_path(place, kind, name, ret_ini, ret_file, errs);
	if (place->dir)
		own = arena_printf(place->arena, "%s/%s", place->dir, folders[kind].installed);
	ret_ini->behind = shipped;
	if (own)
		base = read_one(ret_ini, own, name, ".conf", errs, ret_file);
	if (base == 0) {
		ret_ini->behind = own;
		base = read_one(ret_ini, shipped, name, ".conf", errs, ret_file);
		local = base > 0 ? read_one(ret_ini, shipped, name, ".local", errs, ret_file) : 0;
	}
	ret_ini->behind = shipped;
	if (own)
		over = read_one(ret_ini, own, name, ".local", errs, ret_file);
	if (base < 0 || local < 0 || over < 0)
		return ERROR_CONFIG;
	return base || over ? 0 : -ENOENT;
}

static void suggest_folder(struct suggest *s, const char *folder)
{
	DIR *d = opendir(folder);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);
		char name[SUGGEST_MAX_WORD + 1];

		if (n <= 5 || n - 5 > SUGGEST_MAX_WORD || strcmp(e->d_name + n - 5, ".conf"))
			continue;
		memcpy(name, e->d_name, n - 5);
		name[n - 5] = 0;
		suggest_try(s, name);
	}
	if (d)
		closedir(d);
}

const char *place_suggest(const struct place *place, enum place_kind kind, const char *name,
			  char buf[static SUGGEST_STRLEN])
{
	struct suggest s = suggest_for(name);

	if (place->dir)
		suggest_folder(&s, arena_printf(place->arena, "%s/%s", place->dir,
						folders[kind].installed));
	suggest_folder(&s, shipped_folder(place, kind));
	return suggest_text(&s, buf);
}
