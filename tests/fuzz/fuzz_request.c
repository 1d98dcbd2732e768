/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a client of the control socket may send, from the first byte to the answer, over a small
 * jail room. */
#include "daemon/control/requests.h"
#include "tests/unit/control_harness.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_INPUT (CONTROL_REQUEST_BYTES + 4096)
#define TURNS 64

struct room {
	struct bans *bans;
	struct evidence *evidence;
	struct ignore *ignore;
	void (*reload_done)(void *arg,
			    const struct error *err); /* answered when the client is gone */
	void *reload_arg;
};

static const char *jail_name(void *ctx, uint16_t jail)
{
	(void)ctx;
	return jail == 0 ? "flask" : "hand";
}

static int jail_find(void *ctx, const char *name)
{
	(void)ctx;
	return strcmp(name, "flask") == 0 ? 0 : -ENOENT;
}

static const char *ban_reason(void *ctx, const struct ban *b, char *buf, size_t size)
{
	(void)ctx;
	snprintf(buf, size, "%s", b->reason ? b->reason : "");
	return buf;
}

static const char *rule_name(void *ctx, uint16_t jail, uint32_t rule)
{
	(void)ctx;
	(void)jail;
	(void)rule;
	return "werkzeug";
}

static const char *file_name(void *ctx, uint32_t file)
{
	(void)ctx;
	(void)file;
	return "/log";
}

static json_t *status(void *ctx, struct now now)
{
	(void)ctx;
	(void)now;
	return json_object();
}

static json_t *jail_status(void *ctx, uint16_t jail, struct now now)
{
	(void)jail;
	return status(ctx, now);
}

static void refresh_counters(void *ctx, void (*done)(void *arg), void *arg)
{
	(void)ctx;
	done(arg);
}

static void change(struct room *room, const struct control_ban *items, size_t n, bool unban,
		   void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	struct control_result *results = calloc(n, sizeof *results);

	for (size_t i = 0; results && i < n; i++) {
		const struct ban b = {.addr = items[i].addr,
				      .until_wall_s = items[i].duration_s,
				      .end_mono_ns = CLOCK_FOREVER,
				      .reason = items[i].reason};

		results[i].addr = items[i].addr;
		if (unban)
			results[i].result =
				bans_remove(room->bans, &b.addr, BANS_ANY_JAIL) ? 0 : -ENOENT;
		else
			results[i].result =
				bans_add(room->bans, &b, NULL) == BANS_FULL ? -ENFILE : 0;
	}
	done(arg, results, results ? n : 0);
	free(results);
}

static void ban(void *ctx, const struct control_ban *items, size_t n,
		void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	change(ctx, items, n, false, done, arg);
}

static void unban(void *ctx, const struct control_ban *items, size_t n,
		  void (*done)(void *, const struct control_result *, size_t), void *arg)
{
	change(ctx, items, n, true, done, arg);
}

static void reload(void *ctx, void (*done)(void *arg, const struct error *err), void *arg)
{
	struct room *room = ctx;

	if (room->reload_done) {
		done(arg, NULL);
		return;
	}
	room->reload_done = done;
	room->reload_arg = arg;
}

static void fill(struct room *room)
{
	const struct evidence_record r = {.file = EVIDENCE_NO_FILE,
					  .addr = {{198, 51, 100, 1}, ADDR_IPV4, 32}};
	const struct ban b = {.addr = r.addr, .until_wall_s = 1, .end_mono_ns = 1};

	*room = (struct room){
		.bans = bans_new(64), .evidence = evidence_new(16, 0), .ignore = ignore_new()};
	if (!room->bans || !room->evidence || !room->ignore)
		abort();
	evidence_add(room->evidence, &r, SLICE("\xff\0line"));
	bans_add(room->bans, &b, NULL);
}

static void talk(struct harness *h, const char *bytes, size_t n)
{
	int fd = harness_connect(h);
	char answer[4096];

	harness_send(h, fd, bytes, n);
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < TURNS; i++) {
		harness_turn(h, 1);
		if (recv(fd, answer, sizeof answer, 0) == 0)
			break;
	}
	close(fd);
	harness_turn(h, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct room room;
	struct control_view view = {.ctx = &room,
				    .jail_name = jail_name,
				    .jail_find = jail_find,
				    .ban_reason = ban_reason,
				    .rule_name = rule_name,
				    .file_name = file_name,
				    .status = status,
				    .jail_status = jail_status,
				    .refresh_counters = refresh_counters,
				    .ban = ban,
				    .unban = unban,
				    .reload = reload};
	struct harness h;

	if (size > MAX_INPUT)
		return 0;
	fill(&room);
	view.bans = room.bans;
	view.evidence = room.evidence;
	view.ignore = room.ignore;
	harness_open(&h, requests_handle, &view);
	talk(&h, (const char *)data, size);
	harness_close(&h);
	if (room.reload_done)
		room.reload_done(room.reload_arg, NULL);
	bans_free(room.bans);
	evidence_free(room.evidence);
	ignore_free(room.ignore);
	return 0;
}
