/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCRE2 behind pattern.h. Compiling fails with ERROR_CONFIG; matching never fails, it gives up. If
 * the JIT cannot be had (no support, executable memory forbidden) the interpreter does the work.
 */
#include "daemon/filter/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/base/escape.h"
#include "daemon/filter/tags.h"

#define LIMIT_FIRST 10000
#define LIMIT_RETRY 1000000
#define STACK_START (UINT32_C(32) << 10)
#define STACK_MAX (UINT32_C(1) << 20)
#define BUDGET_NS INT64_C(50000000) /* of retries a second */
#define SECOND_NS INT64_C(1000000000)
#define REPAIRED_SIZE (3 * PATTERN_SUBJECT_MAX + 2)

struct copy {
	pcre2_code *code; /* NULL until needed (Unicode) */
	bool jit;
};

struct pattern {
	struct text_at source;
	struct copy bytes, unicode;
	struct tags_text unicode_text;
	pcre2_match_data *data;
	PCRE2_SPTR names;
	uint32_t name_count, name_size;
};

/* Shared by all patterns of the process; see pattern.h. */
static struct {
	unsigned users;
	pcre2_compile_context *compile;
	pcre2_match_context *first, *retry;
	pcre2_jit_stack *stack;
	char *repaired;
	int64_t tokens_ns, filled_ns;
	bool jit; /* of the pattern compiled last */
} shared;

static int64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static void shared_put(void)
{
	if (--shared.users)
		return;
	pcre2_compile_context_free(shared.compile);
	pcre2_match_context_free(shared.first);
	pcre2_match_context_free(shared.retry);
	pcre2_jit_stack_free(shared.stack);
	free(shared.repaired);
	memset(&shared, 0, sizeof shared);
}

static int shared_get(void)
{
	if (shared.users++)
		return 0;
	shared.compile = pcre2_compile_context_create(NULL);
	shared.first = pcre2_match_context_create(NULL);
	shared.retry = pcre2_match_context_create(NULL);
	shared.repaired = malloc(REPAIRED_SIZE);
	if (!shared.compile || !shared.first || !shared.retry || !shared.repaired) {
		shared_put();
		return -ENOMEM;
	}
	pcre2_set_newline(shared.compile, PCRE2_NEWLINE_LF);
	pcre2_set_match_limit(shared.first, LIMIT_FIRST);
	pcre2_set_match_limit(shared.retry, LIMIT_RETRY);
	shared.stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
	if (shared.stack) {
		pcre2_jit_stack_assign(shared.first, NULL, shared.stack);
		pcre2_jit_stack_assign(shared.retry, NULL, shared.stack);
	}
	shared.tokens_ns = BUDGET_NS;
	shared.filled_ns = clock_ns(CLOCK_MONOTONIC);
	return 0;
}

/* May another retry start? */
static bool budget_left(void)
{
	int64_t now_ns = clock_ns(CLOCK_MONOTONIC), passed_ns = now_ns - shared.filled_ns;

	if (passed_ns > 2 * SECOND_NS)
		passed_ns = 2 * SECOND_NS;
	shared.filled_ns = now_ns;
	shared.tokens_ns += passed_ns * BUDGET_NS / SECOND_NS;
	if (shared.tokens_ns > BUDGET_NS)
		shared.tokens_ns = BUDGET_NS;
	return shared.tokens_ns > 0;
}

static int compile(struct copy *c, const struct tags_text *text, uint32_t options,
		   PCRE2_SIZE *ret_at, int *ret_error)
{
	c->code = pcre2_compile((PCRE2_SPTR)text->text, text->n, options | PCRE2_NEVER_BACKSLASH_C,
				ret_error, ret_at, shared.compile);
	return c->code ? 0 : ERROR_CONFIG;
}

static void make_jit(struct copy *c)
{
	c->jit = c->code && shared.stack && pcre2_jit_compile(c->code, PCRE2_JIT_COMPLETE) == 0;
	shared.jit = c->jit;
}

static int compile_error(struct error *err, const struct text_at *source,
			 const struct tags_text *text, int code, PCRE2_SIZE where)
{
	PCRE2_UCHAR reason[200];

	if (code == PCRE2_ERROR_NOMEMORY)
		return -ENOMEM;
	pcre2_get_error_message(code, reason, sizeof reason);
	return tags_error(err, source, text->from[where <= text->n ? where : text->n],
			  (const char *)reason);
}

static int compile_text(struct pattern *p, enum tags_mode mode, struct tags_text *text,
			struct error *err)
{
	struct copy *c = mode == TAGS_BYTES ? &p->bytes : &p->unicode;
	PCRE2_SIZE where = 0;
	int code = 0, r;

	r = tags_translate(&p->source, mode, text, err);
	if (r < 0)
		return r;
	if (compile(c, text, mode == TAGS_BYTES ? 0 : PCRE2_UTF | PCRE2_UCP, &where, &code) < 0)
		return compile_error(err, &p->source, text, code, where);
	return 0;
}

static int compile_both(struct pattern *p, struct error *err)
{
	struct tags_text text;
	int r = compile_text(p, TAGS_BYTES, &text, err);

	tags_free(&text);
	if (r < 0)
		return r;
	make_jit(&p->bytes);
	/* The Unicode copy is only tried, so that its faults show at load; the text is kept for
	 * later. */
	r = compile_text(p, TAGS_UNICODE, &p->unicode_text, err);
	pcre2_code_free(p->unicode.code);
	p->unicode.code = NULL;
	return r;
}

int pattern_new(const struct text_at *source, struct pattern **ret_pattern, struct error *err)
{
	struct pattern *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return -ENOMEM;
	r = shared_get();
	if (r < 0) {
		free(p);
		return r;
	}
	p->source = *source;
	r = compile_both(p, err);
	if (r == 0) {
		pcre2_pattern_info(p->bytes.code, PCRE2_INFO_NAMETABLE, &p->names);
		pcre2_pattern_info(p->bytes.code, PCRE2_INFO_NAMECOUNT, &p->name_count);
		pcre2_pattern_info(p->bytes.code, PCRE2_INFO_NAMEENTRYSIZE, &p->name_size);
		p->data = pcre2_match_data_create_from_pattern(p->bytes.code, NULL);
		r = p->data ? 0 : -ENOMEM;
	}
	if (r < 0) {
		pattern_free(p);
		return r;
	}
	*ret_pattern = p;
	return 0;
}

void pattern_free(struct pattern *p)
{
	if (!p)
		return;
	pcre2_match_data_free(p->data);
	pcre2_code_free(p->bytes.code);
	pcre2_code_free(p->unicode.code);
	tags_free(&p->unicode_text);
	free(p);
	shared_put();
}

typedef unsigned char lanes __attribute__((vector_size(16)));

/* Any byte >= 0x80 or in \x1c-\x1f? Written for the vector unit; it runs on every line. */
static bool needs_unicode(struct slice text)
{
	unsigned char tail[16] = {0};
	lanes seen = {0}, v;
	uint64_t half[2];
	size_t i = 0;

	for (; i + sizeof v <= text.n; i += sizeof v) {
		memcpy(&v, text.p + i, sizeof v);
		seen |= (v & 0x80) | (lanes)((v & 0xfc) == 0x1c);
	}
	if (i < text.n)
		memcpy(tail, text.p + i, text.n - i);
	memcpy(&v, tail, sizeof v);
	seen |= (v & 0x80) | (lanes)((v & 0xfc) == 0x1c);
	memcpy(half, &seen, sizeof half);
	return (half[0] | half[1]) != 0;
}

void pattern_subject_init(struct pattern_subject *s, struct slice raw)
{
	size_t n;

	s->raw = raw;
	s->text = slice_of(raw.p, raw.n + 1);
	s->unicode = needs_unicode(raw);
	if (!s->unicode || !shared.repaired ||
	    escape_utf8(shared.repaired, REPAIRED_SIZE - 1, raw, &n))
		return;
	shared.repaired[n] = '\n';
	s->text = slice_of(shared.repaired, n + 1);
}

static int run(struct copy *c, pcre2_match_data *data, const struct pattern_subject *s,
	       pcre2_match_context *context)
{
	PCRE2_SPTR text = (PCRE2_SPTR)s->text.p;

	if (c->jit)
		return pcre2_jit_match(c->code, text, s->text.n, 0, 0, data, context);
	return pcre2_match(c->code, text, s->text.n, 0, PCRE2_NO_UTF_CHECK, data, context);
}

static int run_again(struct copy *c, pcre2_match_data *data, const struct pattern_subject *s)
{
	int64_t start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	int r = run(c, data, s, shared.retry);

	shared.tokens_ns -= clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start_ns;
	return r;
}

static struct copy *pick(struct pattern *p, bool unicode)
{
	PCRE2_SIZE where;
	int code;

	if (!unicode)
		return &p->bytes;
	if (!p->unicode.code &&
	    compile(&p->unicode, &p->unicode_text, PCRE2_UTF | PCRE2_UCP, &where, &code) == 0)
		make_jit(&p->unicode);
	return &p->unicode;
}

enum pattern_result pattern_match(struct pattern *p, const struct pattern_subject *s)
{
	struct copy *c = pick(p, s->unicode);
	int r = PCRE2_ERROR_NOMEMORY;

	if (c->code)
		r = run(c, p->data, s, shared.first);
	if (r == PCRE2_ERROR_MATCHLIMIT && budget_left())
		r = run_again(c, p->data, s);
	if (r == PCRE2_ERROR_NOMATCH)
		return PATTERN_NO;
	return r > 0 ? PATTERN_YES : PATTERN_GAVE_UP;
}

/* Offset in the raw bytes of an offset in the repaired text. */
static size_t raw_offset(const struct pattern_subject *s, size_t offset)
{
	const char *raw = s->raw.p, *text = s->text.p;
	size_t i = 0, k = 0;

	if (text == raw)
		return offset < s->raw.n ? offset : s->raw.n;
	while (k < offset && i < s->raw.n) {
		bool replaced = s->text.n - k >= 3 && memcmp(text + k, "\xef\xbf\xbd", 3) == 0 &&
				(s->raw.n - i < 3 || memcmp(raw + i, text + k, 3) != 0);

		k += replaced ? 3 : 1;
		i++;
	}
	return i;
}

struct slice pattern_group(const struct pattern *p, const struct pattern_subject *s,
			   unsigned number)
{
	const PCRE2_SIZE *span = pcre2_get_ovector_pointer(p->data);
	size_t at = 2 * (size_t)number, start, end;

	if (number >= pcre2_get_ovector_count(p->data) || span[at] == PCRE2_UNSET)
		return SLICE_NONE;
	start = raw_offset(s, span[at]);
	end = raw_offset(s, span[at + 1]);
	return slice_of(s->raw.p + start, end > start ? end - start : 0);
}

unsigned pattern_names(const struct pattern *p)
{
	return p->name_count;
}

const char *pattern_name(const struct pattern *p, unsigned i, unsigned *ret_number)
{
	PCRE2_SPTR entry = p->names + (size_t)i * p->name_size;

	*ret_number = (unsigned)entry[0] << 8 | entry[1];
	return (const char *)entry + 2;
}

bool pattern_jit(void)
{
	return shared.jit;
}
