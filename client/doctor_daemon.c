/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban itself: does it run, is it well, does it protect what it should, and can it lock out who
 * is logged in? See doctor.h. What the daemon's JSON lacks is not judged.
 */
#include "client/doctor.h"
#include "client/present.h"
#include "daemon/base/escape.h"
#include "daemon/sockets/sshpeers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"

#define LAG_MS 1000
#define LOGS_MAX 8u
#define GUESTS_MAX 8u /* ssh peers that the daemon is asked about */

bool doctor_has_jail(const struct doctor *d, const char *name)
{
	json_t *jail;
	size_t i;

	json_array_foreach(json_object_get(d->status, "jails"), i, jail)
		if (json_is_string(jail) && !strcmp(json_string_value(jail), name))
			return true;
	return false;
}

static const char *text_of(json_t *o, const char *key, char buf[static TEXT_CELL_BYTES])
{
	return text_json(json_object_get(o, key), buf);
}

static json_int_t number_of(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* --- is it there? ----------------------------------------------------------------------------- */

static void judge_away(struct doctor *d)
{
	const char *log = d->log;
	char socket[200];

	for (size_t i = 0; i < d->nservices && !log; i++)
		log = d->services[i]->log[0] ? d->services[i]->log : NULL;
	findings_add(&d->findings, FINDING_WARN, DOCTOR_TAILBAN, "daemon",
		     "does not answer at %s: %s",
		     escape_text(socket, sizeof socket, slice_str(d->client->socket)),
		     present_why(d->daemon_error));
	if (log)
		findings_remedy(&d->findings, "tailband -q %s, or systemctl enable --now tailban",
				doctor_plain_path(log));
	else
		findings_remedy(
			&d->findings,
			"systemctl enable --now tailban; another socket: tailban -s SOCKET");
}

static void judge_state(struct doctor *d)
{
	char version[TEXT_CELL_BYTES], up[TEXT_TIME_BYTES];
	bool ready = json_is_true(json_object_get(d->status, "ready"));
	bool dry = json_is_true(json_object_get(d->status, "dry_run"));
	bool same = !strcmp(text_of(d->status, "version", version), PACKAGE_VERSION);

	findings_add(&d->findings,
		     !ready         ? FINDING_FAIL
		     : dry || !same ? FINDING_WARN
				    : FINDING_OK,
		     DOCTOR_TAILBAN, "daemon",
		     "version %s, %s, up %s: %" JSON_INTEGER_FORMAT " bans, %" JSON_INTEGER_FORMAT
		     " sockets killed, %" JSON_INTEGER_FORMAT " lines read, %" JSON_INTEGER_FORMAT
		     " offences%s",
		     version, ready ? "ready" : "not ready",
		     text_duration(number_of(d->status, "uptime"), up),
		     number_of(d->status, "bans"), number_of(d->status, "kills"),
		     number_of(d->status, "lines_read"), number_of(d->status, "offences"),
		     dry ? ", a dry run: nothing reaches the kernel" : "");
	if (!same)
		findings_remedy(&d->findings, "this command is %s: restart the daemon",
				PACKAGE_VERSION);
	if (!ready)
		findings_remedy(&d->findings, "tailban status; journalctl -u tailban");
}

static void judge_health(struct doctor *d)
{
	static const char *const keys[] = {"firewall", "kill", "privileges"};
	json_t *health = json_object_get(d->status, "health");
	char text[TEXT_CELL_BYTES];

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		const char *said = json_string_value(json_object_get(health, keys[i]));

		if (!said || !strncmp(said, "ok", 2))
			continue;
		findings_add(&d->findings, i < 2 ? FINDING_FAIL : FINDING_WARN, DOCTOR_TAILBAN,
			     keys[i], "%s", text_of(health, keys[i], text));
		findings_remedy(&d->findings, "tailban status; journalctl -u tailban");
	}
	if (number_of(d->status, "lag_ms") > LAG_MS)
		findings_add(&d->findings, FINDING_WARN, DOCTOR_TAILBAN, "lag",
			     "%" JSON_INTEGER_FORMAT " ms behind its logs",
			     number_of(d->status, "lag_ms"));
}

/* --- what it reads and protects --------------------------------------------------------------- */

static void judge_sources(struct doctor *d)
{
	json_t *sources = json_object_get(d->status, "sources"), *o;
	size_t i, logs = 0;

	json_array_foreach(sources, i, o) {
		const char *path = json_string_value(json_object_get(o, "path"));
		const char *state = json_string_value(json_object_get(o, "state"));
		char text[TEXT_CELL_BYTES], why[TEXT_CELL_BYTES];

		if (state && strcmp(state, "open") != 0) {
			findings_add(&d->findings, FINDING_WARN, DOCTOR_TAILBAN, "source",
				     "%s is not read: %s", text_of(o, "path", text),
				     text_of(o, "state", why));
			findings_remedy(&d->findings, "is logpath right, and is the log there?");
		} else if (path && path[0] == '/' && !d->log && logs++ < LOGS_MAX) {
			doctor_log(d, path);
		}
	}
}

static void judge_ports(struct doctor *d)
{
	json_t *o;
	size_t i;

	json_array_foreach(json_object_get(d->status, "services"), i, o) {
		char text[TEXT_CELL_BYTES], log[TEXT_CELL_BYTES];

		if (!json_is_null(json_object_get(o, "port")))
			continue;
		findings_add(&d->findings, FINDING_WARN, DOCTOR_TAILBAN, "port",
			     "%s: no port is protected, so no socket is closed: %s",
			     text_of(o, "log", log), text_of(o, "text", text));
		findings_remedy(&d->findings, "port = PORT in its jail, then tailban reload");
	}
}

/* Is the port that was asked for among those it protects? */
static void judge_asked(struct doctor *d)
{
	struct port_bits ports;

	present_ports(d->status, &ports);
	for (size_t i = 0; i < d->nservices; i++) {
		const struct service *s = d->services[i];
		bool covered = false;

		for (size_t p = 0; p < s->nports; p++)
			covered |= port_bits_has(&ports, s->ports[p]);
		if (covered)
			continue;
		findings_add(&d->findings, FINDING_WARN, DOCTOR_TAILBAN, "port",
			     "%s is not protected by any jail that is known here", s->about);
		findings_remedy(&d->findings, "a jail with its log, see tailban.conf(5), then "
					      "tailban reload");
	}
}

/* --- lock-out --------------------------------------------------------------------------------- */

static void say_guest(struct doctor *d, const char *addr, const char *who, bool banned)
{
	findings_add(&d->findings, banned ? FINDING_FAIL : FINDING_WARN, DOCTOR_TAILBAN, "lock-out",
		     "%s, from where the ssh session of %s comes, is %s", addr, who,
		     banned ? "banned" : "not on the ignore list");
	if (banned)
		findings_remedy(&d->findings, "tailban unban %s", addr);
	findings_remedy(&d->findings,
			"ignoreip = %s in [DEFAULT] of jail.local, then tailban reload", addr);
}

/* Is a peer of an ssh session banned, or could it be? False when the daemon does not say. */
static bool judge_guest(struct doctor *d, const struct addr *a, const char *who)
{
	char addr[ADDR_STRLEN];
	json_t *data;
	bool banned, ignored;

	addr_format(a, addr);
	data = present_ask(d->client, "why", json_pack("{s:s}", "addr", addr));
	if (!data)
		return false;
	banned = json_array_size(json_object_get(data, "banned")) > 0;
	ignored = json_is_object(json_object_get(data, "ignored"));
	json_decref(data);
	if (banned || !ignored)
		say_guest(d, addr, who, banned);
	return true;
}

/* "CLIENT PORT SERVER PORT" of the caller's own session; sudo drops it. */
static bool own_peer(struct addr *ret_addr)
{
	const char *text = getenv("SSH_CONNECTION");

	return text && addr_parse(slice_of(text, strcspn(text, " ")), ret_addr) == 0 &&
	       !addr_is_loopback(ret_addr);
}

static void judge_lock_out(struct doctor *d)
{
	struct sshpeers *ssh = calloc(1, sizeof *ssh);
	struct addr own;
	bool has_own = own_peer(&own), answers = true;

	if (!ssh)
		client_no_memory();
	if (has_own)
		answers = judge_guest(d, &own, "yourself");
	sshpeers_find(NULL, ssh);
	for (uint32_t i = 0; i < ssh->count && i < GUESTS_MAX && answers; i++)
		if (!has_own || !addr_eq(&own, &ssh->peers[i].addr))
			answers = judge_guest(d, &ssh->peers[i].addr, ssh->peers[i].user);
	free(ssh);
}

/* --- all -------------------------------------------------------------------------------------- */

static void copy_key(json_t *from, json_t *to, const char *key)
{
	json_t *value = json_object_get(from, key);

	if (value)
		json_object_set(to, key, value);
}

void doctor_daemon(struct doctor *d)
{
	static const char *const keys[] = {"version", "ready", "uptime",   "bans",  "kills",
					   "refused", "jails", "services", "health"};

	json_object_set_new(d->daemon, "reachable", json_boolean(d->status != NULL));
	if (d->log)
		doctor_log(d, d->log);
	if (!d->status) {
		json_object_set_new(d->daemon, "error", json_string(present_why(d->daemon_error)));
		judge_away(d);
		return;
	}
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		copy_key(d->status, d->daemon, keys[i]);
	judge_state(d);
	judge_health(d);
	judge_sources(d);
	judge_ports(d);
	judge_asked(d);
	judge_lock_out(d);
}
