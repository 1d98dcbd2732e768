/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban ban and unban: by hand.
 *
 * All addresses are checked before anything is sent; then they go out in requests of CHUNK
 * addresses over one connection. `ban --force` speaks to the privileged process by a socket of its
 * own, past the engine.
 */
#include "client/link.h"
#include "client/options.h"
#include "client/text.h"
#include "daemon/base/ignore.h"
#include "daemon/config/times.h"
#include "daemon/enforcer/protocol.h"
#include "daemon/jail/bans.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 500u /* a request stays well below 64 KiB */
#define LIST_MAX (1u << 20)
#define BY_FORCE_S 3600 /* without --for */
#define FOR_MAX_S INT64_C(3155760000)
#define FORCE_IPV6_PREFIX 64
#define QUIET_ABOVE 50u /* of a longer list only what went wrong is printed */

struct target {
	struct addr addr;
	bool exact; /* a length was written */
};

struct targets {
	struct target *list;
	size_t n, room;
};

struct ban_options {
	const char *file, *jail, *lasts, *reason;
	bool force;
	int64_t for_s; /* 0: not said; -1: for ever */
};

/* What came back. */
struct tally {
	const struct client *c;
	const char *done, *many; /* "is banned", "banned" */
	size_t total, shown, ok, refused, absent, failed;
};

/* --- addresses -------------------------------------------------------------------------------- */

static int add_target(struct targets *t, struct slice text)
{
	struct target one = {.exact = slice_find(text, '/') < text.n};

	if (addr_parse_net(text, &one.addr) < 0)
		return -EINVAL;
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct target *grown = reallocarray(t->list, room, sizeof *grown);

		if (!grown)
			return -ENOMEM;
		t->list = grown;
		t->room = room;
	}
	t->list[t->n++] = one;
	return 0;
}

static int add_words(const struct client *c, struct targets *t, char **words, int n)
{
	for (int i = 0; i < n; i++) {
		int r = add_target(t, slice_str(words[i]));

		if (r == -EINVAL)
			return client_usage(c, "'%s' is no address or network", words[i]);
		if (r < 0) {
			client_complain("out of memory");
			return CLIENT_AWAY;
		}
	}
	return CLIENT_YES;
}

static const char *cut(struct slice text, char *buf, size_t size)
{
	snprintf(buf, size, "%.*s", (int)(text.n < size ? text.n : size), text.p);
	return buf;
}

/* One line of a list: an address or nothing; the rest behind # is comment. */
static int add_line(struct targets *t, struct slice line, const char *path, size_t number)
{
	struct slice text = slice_trim(slice_head(line, slice_find(line, '#')));
	char shown[200];
	int r = text.n ? add_target(t, text) : 0;

	if (r == -EINVAL)
		client_complain("%s:%zu: no address or network: '%s'", path, number,
				cut(text, shown, sizeof shown));
	else if (r < 0)
		client_complain("%s:%zu: out of memory", path, number);
	else if (t->n > LIST_MAX)
		client_complain("%s:%zu: more than %u addresses", path, number, LIST_MAX);
	else
		return CLIENT_YES;
	return CLIENT_USAGE;
}

static int add_file(struct targets *t, const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *line = NULL;
	size_t room = 0, number = 0;
	int r = CLIENT_YES;
	ssize_t n;

	if (!f) {
		client_complain("cannot read '%s': %s", path, strerror(errno));
		return CLIENT_USAGE;
	}
	while (r == CLIENT_YES && (n = getline(&line, &room, f)) > 0)
		r = add_line(t, slice_of(line, (size_t)n), path, ++number);
	if (r == CLIENT_YES && ferror(f)) {
		client_complain("cannot read '%s': %s", path, strerror(errno));
		r = CLIENT_USAGE;
	}
	free(line);
	if (f != stdin)
		fclose(f);
	return r;
}

/* --- results ---------------------------------------------------------------------------------- */

static void count(struct tally *t, const char *result)
{
	if (!strcmp(result, "ok"))
		t->ok++;
	else if (!strcmp(result, "refused"))
		t->refused++;
	else if (!strcmp(result, "not_banned"))
		t->absent++;
	else
		t->failed++;
}

static void show(struct tally *t, json_t *one, const char *result)
{
	char addr[TEXT_CELL_BYTES], why[TEXT_CELL_BYTES];
	bool ok = !strcmp(result, "ok");

	text_json(json_object_get(one, "addr"), addr);
	text_json(json_object_get(one, "text"), why);
	if (ok && t->total > QUIET_ABOVE)
		return;
	if (ok)
		printf("%s %s\n", addr, t->done);
	else if (!strcmp(result, "not_banned"))
		printf("%s is not banned\n", addr);
	else
		printf("%s: %s: %s\n", addr, result, why);
}

static void take_results(struct tally *t, json_t *results)
{
	json_t *one;
	size_t i;

	json_array_foreach(results, i, one) {
		const char *result = json_string_value(json_object_get(one, "result"));

		count(t, result ? result : "error");
		if (t->c->json)
			link_print_item(one, &t->shown);
		else
			show(t, one, result ? result : "error");
	}
}

/* r is how sending ended. */
static int finish(const struct tally *t, int r)
{
	if (t->c->json && (r == CLIENT_YES || t->shown))
		link_print_end(t->shown);
	if (r != CLIENT_YES)
		return r;
	if (!t->c->json && t->total > QUIET_ABOVE)
		printf("%zu %s, %zu refused, %zu were not banned, %zu failed\n", t->ok, t->many,
		       t->refused, t->absent, t->failed);
	if (t->refused || t->failed)
		return CLIENT_REFUSED;
	return t->absent ? CLIENT_NO : CLIENT_YES;
}

/* --- to the engine ---------------------------------------------------------------------------- */

static json_t *chunk_json(const struct target *list, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++) {
		char text[ADDR_STRLEN + 8];
		bool host = list[i].addr.plen == addr_bits(&list[i].addr);

		addr_format(&list[i].addr, text);
		/* Formatting leaves out the length of a host; said, it means just this one. */
		if (host && list[i].exact)
			snprintf(text + strlen(text), 8, "/%u", list[i].addr.plen);
		json_array_append_new(array, json_string(text));
	}
	return array;
}

/* ban answers with the results, unban with an object that has them. */
static void take_answer(struct tally *t, json_t *data)
{
	take_results(t, json_is_array(data) ? data : json_object_get(data, "results"));
}

static int send_chunks(struct tally *t, const char *cmd, json_t *common,
		       const struct targets *targets)
{
	struct link link;
	int r = link_open(&link, t->c);

	for (size_t at = 0; r == CLIENT_YES && at < targets->n; at += CHUNK) {
		size_t n = targets->n - at < CHUNK ? targets->n - at : CHUNK;
		json_t *args = json_copy(common), *data = NULL;

		json_object_set_new(args, "addrs", chunk_json(targets->list + at, n));
		r = link_ask(&link, cmd, args, &data);
		take_answer(t, data);
		json_decref(data);
	}
	link_close(&link);
	return r;
}

static int send_bans(struct tally *t, const struct ban_options *o, const struct targets *targets)
{
	json_t *args = json_object();
	int r;

	if (o->jail)
		json_object_set_new(args, "jail", json_string(o->jail));
	if (o->for_s)
		json_object_set_new(args, "for", json_integer(o->for_s));
	if (o->reason)
		json_object_set_new(args, "reason", json_string(o->reason));
	r = send_chunks(t, "ban", args, targets);
	json_decref(args);
	return finish(t, r);
}

/* --- by force --------------------------------------------------------------------------------- */

static json_t *force_result(const struct protocol_ban *b)
{
	char addr[ADDR_STRLEN], text[200] = "";
	const char *result = b->result == 0               ? "ok"
			     : b->result == ERROR_REFUSED ? "refused"
							  : "error";

	if (b->result == ERROR_REFUSED)
		snprintf(text, sizeof text, "not even by force (%s)",
			 b->reason < IGNORE_NREASONS
				 ? ignore_reason_name((enum ignore_reason)b->reason)
				 : "unknown");
	else if (b->result)
		snprintf(text, sizeof text, "%s", error_name(b->result));
	return json_pack("{s:s, s:s, s:s}", "addr", addr_format(&b->addr, addr), "result", result,
			 "text", text);
}

static int force_one(struct tally *t, const struct ban_options *o, const struct target *target)
{
	struct protocol_ban b = {.addr = target->addr,
				 .jail = PROTOCOL_JAIL_HAND,
				 .source = BAN_HAND,
				 .flags = PROTOCOL_BAN_KILL,
				 .since_wall_s = time(NULL)};
	int64_t seconds = o->for_s ? o->for_s : BY_FORCE_S;
	json_t *list, *one;
	int fd = link_force(t->c);
	bool answered;

	if (fd < 0)
		return CLIENT_AWAY;
	b.remaining_ms = seconds < 0 ? PROTOCOL_FOREVER : (uint64_t)seconds * 1000;
	if (!target->exact && b.addr.family == ADDR_IPV6)
		b.addr = addr_mask(b.addr, FORCE_IPV6_PREFIX);
	answered = send(fd, &b, sizeof b, MSG_NOSIGNAL) == (ssize_t)sizeof b &&
		   recv(fd, &b, sizeof b, 0) == (ssize_t)sizeof b;
	close(fd);
	if (!answered) {
		client_complain("no answer at '%s.force': only root may ban by force",
				t->c->socket);
		return CLIENT_AWAY;
	}
	one = force_result(&b);
	list = json_pack("[o]", one);
	take_results(t, list);
	json_decref(list);
	return CLIENT_YES;
}

static int send_by_force(struct tally *t, const struct ban_options *o,
			 const struct targets *targets)
{
	int r = CLIENT_YES;

	for (size_t i = 0; i < targets->n && r == CLIENT_YES; i++)
		r = force_one(t, o, &targets->list[i]);
	return finish(t, r);
}

/* --- ban -------------------------------------------------------------------------------------- */

static int parse_for(const struct client *c, struct ban_options *o)
{
	if (!o->lasts)
		return CLIENT_YES;
	if (!strcmp(o->lasts, "ever") || !strcmp(o->lasts, "-1")) {
		o->for_s = -1;
		return CLIENT_YES;
	}
	if (times_parse(slice_str(o->lasts), &o->for_s) < 0 || o->for_s <= 0)
		return client_usage(c, "--for takes a time such as 1h 30m, or ever, not '%s'",
				    o->lasts);
	if (o->for_s > FOR_MAX_S)
		return client_usage(c, "--for: '%s' is more than 100 years; say ever", o->lasts);
	return CLIENT_YES;
}

static int check_words(const struct client *c, const struct ban_options *o, int nwords)
{
	if (!nwords && !o->file)
		return client_usage(c, "whom? an address, or --file LIST");
	if (nwords && o->file)
		return client_usage(c, "either addresses or --file");
	if (o->force && (o->jail || o->reason))
		return client_usage(c, "--force takes no %s", o->jail ? "--jail" : "--reason");
	return CLIENT_YES;
}

int ban_command(struct client *c, int argc, char **argv)
{
	struct ban_options o = {0};
	const struct option own[] = {{"file", 0, &o.file, NULL},   {"jail", 'j', &o.jail, NULL},
				     {"for", 0, &o.lasts, NULL},   {"reason", 0, &o.reason, NULL},
				     {"force", 0, NULL, &o.force}, {NULL, 0, NULL, NULL}};
	int n = options_parse(c, argc, argv, own, false), r;
	struct targets targets = {0};
	struct tally tally = {.c = c, .done = "is banned", .many = "banned"};

	if (n < 0)
		return options_status(c);
	r = check_words(c, &o, n);
	if (r == CLIENT_YES)
		r = parse_for(c, &o);
	if (r == CLIENT_YES)
		r = o.file ? add_file(&targets, o.file) : add_words(c, &targets, argv + 1, n);
	tally.total = targets.n;
	if (r == CLIENT_YES)
		r = o.force ? send_by_force(&tally, &o, &targets) : send_bans(&tally, &o, &targets);
	free(targets.list);
	return r;
}

/* --- unban ------------------------------------------------------------------------------------ */

/* The address of the caller's own ssh session. */
static int add_me(const struct client *c, struct targets *t)
{
	const char *session = getenv("SSH_CONNECTION");
	struct slice addr;

	if (!session)
		session = getenv("SSH_CLIENT");
	if (!session)
		return client_usage(
			c, "--me: this is no ssh session, SSH_CONNECTION is not set (sudo drops "
			   "it: sudo --preserve-env=SSH_CONNECTION tailban unban --me)");
	addr = slice_head(slice_str(session), strcspn(session, " "));
	if (add_target(t, addr) < 0)
		return client_usage(c, "--me: no address in SSH_CONNECTION '%s'", session);
	return CLIENT_YES;
}

static void say_removed(json_int_t n)
{
	printf("%" JSON_INTEGER_FORMAT " ban%s lifted\n", n, n == 1 ? "" : "s");
}

static int unban_all(struct tally *t, json_t *args)
{
	json_t *data = NULL, *one, *results;
	int r;
	size_t i;

	json_object_set_new(args, "all", json_true());
	r = link_once(t->c, "unban", args, &data);
	if (r != CLIENT_YES)
		return r;
	results = json_object_get(data, "results");
	json_array_foreach(results, i, one) {
		const char *result = json_string_value(json_object_get(one, "result"));

		count(t, result ? result : "error");
	}
	if (t->c->json)
		link_print(results);
	else
		say_removed(json_integer_value(json_object_get(data, "removed")));
	json_decref(data);
	if (t->failed)
		return CLIENT_REFUSED;
	return t->ok ? CLIENT_YES : CLIENT_NO;
}

static int unban_some(struct tally *t, json_t *args, const struct targets *targets)
{
	int r = send_chunks(t, "unban", args, targets);

	json_decref(args);
	return finish(t, r);
}

int unban_command(struct client *c, int argc, char **argv)
{
	const char *jail = NULL;
	bool all = false, me = false;
	const struct option own[] = {{"all", 0, NULL, &all},
				     {"me", 0, NULL, &me},
				     {"jail", 'j', &jail, NULL},
				     {NULL, 0, NULL, NULL}};
	int n = options_parse(c, argc, argv, own, false), r;
	struct targets targets = {0};
	struct tally tally = {.c = c, .done = "is not banned any more", .many = "unbanned"};
	json_t *args;

	if (n < 0)
		return options_status(c);
	if (all + me + (n > 0) != 1)
		return client_usage(c, "whom? either addresses, --all or --me");
	r = me ? add_me(c, &targets) : add_words(c, &targets, argv + 1, n);
	if (r == CLIENT_YES) {
		tally.total = targets.n;
		args = json_object();
		if (jail)
			json_object_set_new(args, "jail", json_string(jail));
		r = all ? unban_all(&tally, args) : unban_some(&tally, args, &targets);
	}
	free(targets.list);
	return r;
}
