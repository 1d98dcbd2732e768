/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and merging INI files: see ini.h. A faulty line is reported and skipped, so that one run
 * shows all of them; the file then counts as broken, and nothing of it is merged.
 */
#include "daemon/config/ini.h"
#include "daemon/config/textbuf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FAULTS 20u /* reported in one file; then the rest is not looked at */

/* An option as it stands in one file, before merging; name NULL stands for the section's own line.
 */
struct entry {
	const char *section, *section_cond, *name, *cond, *text;
	unsigned line;
};

struct parser {
	struct ini *ini;
	const char *file;
	struct conf_errors *errs;
	unsigned line, faults;
	const char *section, *section_cond;
	struct entry *entries;
	size_t count, room;
	bool open; /* the last entry's value may go on */
	size_t indent;
	struct textbuf value;
};

/* The files that are being read, innermost first: how loops are found. */
struct chain {
	const char *path;
	const struct chain *before;
	unsigned depth;
};

void ini_init(struct ini *ini, struct arena *arena)
{
	memset(ini, 0, sizeof *ini);
	ini->arena = arena;
}

/* Room for one more item; the arena keeps the outgrown copy. */
static void *grow(struct arena *arena, void *items, size_t count, size_t *room, size_t size)
{
	void *grown;

	if (count < *room)
		return items;
	*room = *room ? *room * 2 : 8;
	grown = arena_array(arena, *room, size);
	if (count)
		memcpy(grown, items, count * size);
	return grown;
}

static char *lower(struct arena *arena, struct slice text)
{
	char *copy = arena_slicedup(arena, text);

	for (size_t i = 0; i < text.n; i++)
		if (copy[i] >= 'A' && copy[i] <= 'Z')
			copy[i] = (char)(copy[i] - 'A' + 'a');
	return copy;
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* Bytes of the UTF-8 character at the start of text, or 0 when there is none. */
static size_t utf8_length(struct slice text)
{
	unsigned char c = (unsigned char)text.p[0];
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (text.n < n)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < n; i++, low = 0x80, high = 0xbf)
		if ((unsigned char)text.p[i] < low || (unsigned char)text.p[i] > high)
			return 0;
	return n;
}

static bool utf8_valid(struct slice text)
{
	while (text.n) {
		size_t n = utf8_length(text);

		if (!n)
			return false;
		text = slice_skip(text, n);
	}
	return true;
}

static void fault(struct parser *p, const char *what, struct slice text)
{
	char quoted[QUOTE_SIZE];

	p->faults++;
	conf_errors_add(p->errs, p->file, p->line, "%s: '%s'", what, textbuf_quote(text, quoted));
}

/* Writes the value that has come to its end into its entry, without empty lines behind it. */
static void close_value(struct parser *p)
{
	if (!p->open)
		return;
	while (p->value.n && p->value.p[p->value.n - 1] == '\n')
		p->value.n--;
	p->entries[p->count - 1].text =
		arena_slicedup(p->ini->arena, slice_of(p->value.p, p->value.n));
	p->value.n = 0;
	p->open = false;
}

static struct entry *add_entry(struct parser *p)
{
	struct entry *e;

	p->entries = grow(p->ini->arena, p->entries, p->count, &p->room, sizeof *p->entries);
	e = &p->entries[p->count++];
	*e = (struct entry){.section = p->section,
			    .section_cond = p->section_cond,
			    .text = "",
			    .line = p->line};
	return e;
}

/* Cuts "?condition" off a name; true unless it is there and empty. */
static bool split_cond(struct parser *p, struct slice *name, const char **ret_cond)
{
	size_t at = slice_find(*name, '?');
	struct slice cond = slice_skip(*name, at + 1);

	*ret_cond = NULL;
	if (at == name->n)
		return true;
	*ret_cond = arena_slicedup(p->ini->arena, slice_trim(cond));
	*name = slice_trim(slice_head(*name, at));
	return slice_find(cond, '=') < cond.n && name->n;
}

static void section_line(struct parser *p, struct slice line)
{
	size_t end = slice_find(line, ']');
	struct slice name = slice_trim(slice_of(line.p + 1, end == line.n ? 0 : end - 1));
	const char *cond;

	close_value(p);
	if (end == line.n) {
		fault(p, "the section's name has no ']'", line);
		return;
	}
	if (slice_trim(slice_skip(line, end + 1)).n) {
		fault(p, "text behind a section's name", line);
		return;
	}
	if (!name.n || !split_cond(p, &name, &cond)) {
		fault(p, "a section needs a name", line);
		return;
	}
	p->section = arena_slicedup(p->ini->arena, name);
	p->section_cond = cond;
	add_entry(p);
}

/* Where the '=' or ':' between name and value stands; the '=' of "?family=inet6" is none. */
static size_t delimiter(struct slice line)
{
	bool cond = false;

	for (size_t i = 0; i < line.n; i++) {
		if (line.p[i] == '?')
			cond = true;
		else if (line.p[i] == '=' && cond)
			cond = false;
		else if (line.p[i] == '=' || line.p[i] == ':')
			return i;
	}
	return line.n;
}

static void option_line(struct parser *p, struct slice line, size_t indent)
{
	size_t at = delimiter(line);
	struct slice name = slice_trim(slice_head(line, at));
	const char *cond;
	struct entry *e;

	close_value(p);
	if (!p->section) {
		fault(p, "text before the first [section]", line);
		return;
	}
	if (at == line.n || !name.n) {
		fault(p, "neither '[section]' nor 'name = value'", line);
		return;
	}
	if (!split_cond(p, &name, &cond)) {
		fault(p, "a condition is written 'name?family=inet6 = value'", line);
		return;
	}
	e = add_entry(p);
	e->name = lower(p->ini->arena, name);
	e->cond = cond;
	textbuf_add(&p->value, slice_trim(slice_skip(line, at + 1)));
	p->open = true;
	p->indent = indent;
}

/* The line without its comment: all of it after '#' or ';' at the start, or ';' behind a blank. */
static struct slice cut_comment(struct slice line, size_t indent)
{
	if (indent < line.n && (line.p[indent] == '#' || line.p[indent] == ';'))
		return slice_head(line, indent);
	for (size_t i = 1; i < line.n; i++)
		if (line.p[i] == ';' && (line.p[i - 1] == ' ' || line.p[i - 1] == '\t'))
			return slice_head(line, i);
	return line;
}

static void one_line(struct parser *p, struct slice line)
{
	size_t indent = 0;

	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	if (line.n > INI_MAX_LINE) {
		fault(p, "a line of more than 64 KiB", line);
		return;
	}
	if (slice_find(line, 0) < line.n) {
		fault(p, "a NUL byte in the line", line);
		return;
	}
	if (!utf8_valid(line)) {
		fault(p, "bytes that are not UTF-8", line);
		return;
	}
	while (indent < line.n && (line.p[indent] == ' ' || line.p[indent] == '\t'))
		indent++;
	line = slice_trim(cut_comment(line, indent));
	if (p->open && (!line.n || indent > p->indent)) {
		textbuf_add(&p->value, SLICE("\n"));
		textbuf_add(&p->value, line);
	} else if (line.n && line.p[0] == '[') {
		section_line(p, line);
	} else if (line.n) {
		option_line(p, line, indent);
	}
}

/* All lines into p->entries. 0, or ERROR_CONFIG when there were faults. */
static int parse(struct parser *p, struct slice text)
{
	p->value.arena = p->ini->arena;
	if (slice_starts(text, SLICE("\xef\xbb\xbf")))
		text = slice_skip(text, 3);
	while (text.n) {
		size_t end = slice_find(text, '\n');

		p->line++;
		one_line(p, slice_head(text, end));
		text = slice_skip(text, end + 1);
		if (p->faults >= MAX_FAULTS) {
			conf_errors_add(p->errs, p->file, p->line,
					"too many errors, the rest is not looked at");
			break;
		}
	}
	close_value(p);
	return p->faults ? ERROR_CONFIG : 0;
}

static struct ini_section *find_section(const struct ini *ini, const char *name, const char *cond)
{
	for (size_t i = 0; i < ini->count; i++)
		if (same(ini->sections[i].name, name) && same(ini->sections[i].cond, cond))
			return &ini->sections[i];
	return NULL;
}

static struct ini_option *find_option(const struct ini_section *s, const char *name,
				      const char *cond)
{
	for (size_t i = 0; i < s->count; i++)
		if (same(s->options[i].name, name) && same(s->options[i].cond, cond))
			return &s->options[i];
	return NULL;
}

static void warn_twice(struct ini *ini, const struct ini_value *old, const struct entry *e,
		       const char *file)
{
	struct text_at warning = {.file = file, .line = e->line};

	warning.text = arena_printf(
		ini->arena, "'%s' is set twice in [%s], this one counts and line %u does not",
		e->name, e->section, old->line);
	ini->warnings =
		arena_append(ini->arena, ini->warnings, ini->nwarnings++, sizeof warning, &warning);
}

static void merge_option(struct ini *ini, struct ini_section *s, const struct entry *e,
			 const char *file)
{
	struct ini_option *o = find_option(s, e->name, e->cond);
	struct ini_value *v = arena_alloc(ini->arena, sizeof *v);

	*v = (struct ini_value){e->name, e->text, file, e->line, ini->rank, o ? o->value : NULL};
	if (o && o->value->rank == ini->rank) {
		warn_twice(ini, o->value, e, file);
		v->known = o->value->known;
	}
	if (!o) {
		s->options = grow(ini->arena, s->options, s->count, &s->room, sizeof *s->options);
		o = &s->options[s->count++];
		o->name = e->name;
		o->cond = e->cond;
	}
	o->value = v;
}

static void merge_entry(struct ini *ini, const struct entry *e, const char *file)
{
	struct ini_section *s = find_section(ini, e->section, e->section_cond);

	if (!s) {
		ini->sections = grow(ini->arena, ini->sections, ini->count, &ini->room,
				     sizeof *ini->sections);
		s = &ini->sections[ini->count++];
		*s = (struct ini_section){
			.name = e->section, .cond = e->section_cond, .file = file, .line = e->line};
	}
	if (e->name)
		merge_option(ini, s, e, file);
}

int ini_parse(struct ini *ini, const char *file, struct slice text, struct conf_errors *errs)
{
	struct parser p = {.ini = ini, .file = arena_strdup(ini->arena, file), .errs = errs};
	int r = parse(&p, text);

	if (r)
		return r;
	ini->rank++;
	for (size_t i = 0; i < p.count; i++)
		merge_entry(ini, &p.entries[i], p.file);
	return 0;
}

void ini_set(struct ini *ini, const char *section, const char *name, const char *text,
	     const char *file)
{
	struct entry e = {.section = section, .name = name, .text = text};

	ini->rank++;
	merge_entry(ini, &e, file);
}

/* The whole file in memory of malloc. 0, -ENOENT, or ERROR_CONFIG (said). */
static int slurp(const char *path, char **ret_text, size_t *ret_n, struct conf_errors *errs)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	char *text;
	size_t n = 0;
	ssize_t got = 0;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return conf_errors_add(errs, path, 0, "cannot be read: %s", strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return conf_errors_add(errs, path, 0, "is no regular file");
	}
	text = malloc(INI_MAX_FILE + 1);
	while (text && n <= INI_MAX_FILE && (got = read(fd, text + n, INI_MAX_FILE + 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	if (text && got >= 0 && n <= INI_MAX_FILE) {
		*ret_text = text;
		*ret_n = n;
		return 0;
	}
	free(text);
	if (text && got >= 0)
		return conf_errors_add(errs, path, 0,
				       "is larger than 4 MiB, this is no configuration file");
	return conf_errors_add(errs, path, 0, "cannot be read: %s",
			       strerror(text ? errno : ENOMEM));
}

static int read_chain(struct ini *ini, const char *path, const struct chain *chain,
		      struct conf_errors *errs);

static bool in_chain(const struct chain *chain, const char *path)
{
	for (; chain; chain = chain->before)
		if (!strcmp(chain->path, path))
			return true;
	return false;
}

static bool ends_in(struct slice name, struct slice tail)
{
	return name.n > tail.n && slice_eq(slice_skip(name, name.n - tail.n), tail);
}

/* Beside the including file, else in the shipped directory behind it. */
static const char *include_path(struct ini *ini, const char *from, struct slice name)
{
	const char *slash = strrchr(from, '/'), *path;

	if (name.p[0] == '/')
		return arena_slicedup(ini->arena, name);
	path = arena_printf(ini->arena, "%.*s%.*s", slash ? (int)(slash - from + 1) : 0, from,
			    (int)name.n, name.p);
	if (ini->behind && access(path, F_OK))
		return arena_printf(ini->arena, "%s/%.*s", ini->behind, (int)name.n, name.p);
	return path;
}

/* The file and then the .local beside it, which may in turn include the file (a usual idiom). */
static int include_one(struct ini *ini, const struct entry *e, struct slice name,
		       const struct chain *chain, struct conf_errors *errs)
{
	const char *path = include_path(ini, chain->path, name);
	int r;

	if (ends_in(name, SLICE(".local"))) {
		r = in_chain(chain, path) ? 0 : read_chain(ini, path, chain, errs);
		return r == -ENOENT ? 0 : r;
	}
	if (in_chain(chain, path) || chain->depth >= INI_MAX_DEPTH)
		return conf_errors_add(
			errs, chain->path, e->line,
			"the include leads back to a file that is being read: '%.*s'", (int)name.n,
			name.p);
	r = read_chain(ini, path, chain, errs);
	if (r == -ENOENT)
		return conf_errors_add(errs, chain->path, e->line,
				       "no such file to include: '%.*s'", (int)name.n, name.p);
	if (r || !ends_in(name, SLICE(".conf")))
		return r;
	name.n -= strlen(".conf");
	path = include_path(ini, chain->path,
			    slice_str(arena_printf(ini->arena, "%.*s.local", (int)name.n, name.p)));
	if (in_chain(chain, path))
		return 0;
	r = read_chain(ini, path, chain, errs);
	return r == -ENOENT ? 0 : r;
}

/* Follows one of the [INCLUDES] options, "before" or "after". */
static int include(struct ini *ini, const struct parser *p, const char *which,
		   const struct chain *chain)
{
	int r = 0;

	for (size_t i = 0; i < p->count; i++) {
		const struct entry *e = &p->entries[i];
		struct slice rest = slice_str(e->text), name;

		if (strcmp(e->section, "INCLUDES") || !e->name || strcmp(e->name, which))
			continue;
		while (slice_next(&rest, "\n", &name)) {
			name = slice_trim(name);
			if (name.n && include_one(ini, e, name, chain, p->errs))
				r = ERROR_CONFIG;
		}
	}
	return r;
}

/* One file: what it wants before, itself, what it wants after. */
static int read_chain(struct ini *ini, const char *path, const struct chain *chain,
		      struct conf_errors *errs)
{
	struct chain link = {.before = chain, .depth = chain ? chain->depth + 1 : 0};
	struct parser p = {.ini = ini, .errs = errs};
	char *text = NULL;
	size_t n = 0;
	int r = slurp(path, &text, &n, errs);

	if (r)
		return r;
	link.path = p.file = arena_strdup(ini->arena, path);
	r = parse(&p, slice_of(text, n));
	free(text);
	if (r)
		return r;
	r = include(ini, &p, "before", &link);
	ini->rank++;
	for (size_t i = 0; i < p.count; i++)
		if (strcmp(p.entries[i].section, "INCLUDES"))
			merge_entry(ini, &p.entries[i], p.file);
	return include(ini, &p, "after", &link) ? ERROR_CONFIG : r;
}

int ini_read(struct ini *ini, const char *path, struct conf_errors *errs)
{
	return read_chain(ini, path, NULL, errs);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* A file that was listed a moment ago, so a missing one is a dangling link. */
static int read_listed(struct ini *ini, const char *path, struct conf_errors *errs)
{
	int r = ini_read(ini, path, errs);

	return r == -ENOENT ? conf_errors_add(errs, path, 0, "cannot be read: %s", strerror(ENOENT))
			    : r;
}

/* DIR/X.d/<any>TAIL: how many were read, or ERROR_CONFIG after reading all. */
static int read_dir(struct ini *ini, const char *dir, const char *tail, struct conf_errors *errs)
{
	struct dirent **names = NULL;
	int count = scandir(dir, &names, NULL, by_name);
	int read = 0;
	bool broken = false;

	if (count < 0 && errno == ENOENT)
		return 0;
	if (count < 0)
		return conf_errors_add(errs, dir, 0, "cannot be read: %s", strerror(errno));
	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;

		if (name[0] != '.' && ends_in(slice_str(name), slice_str(tail))) {
			if (read_listed(ini, arena_printf(ini->arena, "%s/%s", dir, name), errs))
				broken = true;
			read++;
		}
		free(names[i]);
	}
	free(names);
	return broken ? ERROR_CONFIG : read;
}

int ini_read_tree(struct ini *ini, const char *dir, const char *base, struct conf_errors *errs)
{
	static const char *const tails[] = {".conf", ".local"};
	int files = 0;
	bool broken = false;

	for (size_t i = 0; i < 2; i++) {
		int r = ini_read(ini, arena_printf(ini->arena, "%s/%s%s", dir, base, tails[i]),
				 errs);

		files += r == 0;
		broken |= r && r != -ENOENT;
		r = read_dir(ini, arena_printf(ini->arena, "%s/%s.d", dir, base), tails[i], errs);
		broken |= r < 0;
		files += r > 0 ? r : 0;
	}
	return broken ? ERROR_CONFIG : files;
}

const struct ini_section *ini_section(const struct ini *ini, const char *name)
{
	return find_section(ini, name, NULL);
}

const struct ini_value *ini_own(const struct ini *ini, const char *section, const char *name)
{
	const struct ini_section *s = find_section(ini, section, NULL);
	const struct ini_option *o = s ? find_option(s, name, NULL) : NULL;

	return o ? o->value : NULL;
}

const struct ini_value *ini_get(const struct ini *ini, const char *section, const char *name)
{
	const struct ini_value *v = ini_own(ini, section, name);

	return v ? v : ini_own(ini, INI_DEFAULT, name);
}
