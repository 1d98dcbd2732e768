/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tailban doctor: what the owner of a dying service looks up by hand, judged, in one page.
 *
 * Works without the daemon. Status 0 when nothing fails, 1 when something does, 3 when the kernel
 * does not list its sockets.
 */
#include "client/doctor.h"
#include "client/options.h"
#include "client/present.h"
#include "daemon/base/error.h"
#include "daemon/base/escape.h"
#include "daemon/base/hostaddr.h"
#include "daemon/base/process.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdio.h>
#include <unistd.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PEERS_SHOWN 5u
#define PEERS_SHOWN_BRIEF 2u

/* --- the page --------------------------------------------------------------------------------- */

static void print_head(const struct service *s)
{
	const struct vitals *v = &s->vitals[0];
	char comm[PROC_COMM_BYTES * ESCAPE_MAX_GROWTH], head[400], up[TEXT_TIME_BYTES];

	if (!s->budget.ntasks) {
		text_styled(TEXT_HEAD, "%s\n", s->about);
		return;
	}
	escape_text(comm, sizeof comm, slice_str(s->budget.tasks[0].comm));
	snprintf(head, sizeof head, "%s (pid %d, user %s) on %s, up %s:", comm,
		 (int)s->budget.tasks[0].pid, v->user, s->about, text_duration(v->age_s, up));
	text_styled(TEXT_HEAD, "%s", head);
	putchar(' ');
	text_clipped(slice_str(v->command), (int)strlen(head) + 1);
}

enum { ADDRESS, CONNS, SILENT, OLDEST, IN, OUT, BANNED, NCOLUMNS };

static const struct text_column columns[NCOLUMNS] = {
	[ADDRESS] = {"  PEER", false}, [CONNS] = {"CONNS", true}, [SILENT] = {"SILENT", true},
	[OLDEST] = {"OLDEST", true},   [IN] = {"IN", true},       [OUT] = {"OUT", true},
	[BANNED] = {"BANNED", false},
};

static void cell(const void *ctx, size_t row, size_t column, char *buf)
{
	const struct peer *peer = &((const struct service *)ctx)->peers.list[row];
	char addr[ADDR_STRLEN];

	switch (column) {
	case ADDRESS:
		snprintf(buf, TEXT_CELL_BYTES, "  %s", addr_format(&peer->prefix, addr));
		break;
	case CONNS:
		snprintf(buf, TEXT_CELL_BYTES, "%" PRIu32, peer->connections);
		break;
	case SILENT:
		snprintf(buf, TEXT_CELL_BYTES, "%" PRIu32, peer->silent);
		break;
	case OLDEST:
		snprintf(buf, TEXT_CELL_BYTES, "-");
		if (peer->silent)
			text_duration(peer->oldest_silent_ms / 1000, buf);
		break;
	case IN:
		text_bytes(peer->bytes_received, buf);
		break;
	case OUT:
		text_bytes(peer->bytes_acked, buf);
		break;
	case BANNED:
		snprintf(buf, TEXT_CELL_BYTES, "%s", peers_banned_word(peer->banned));
		break;
	}
}

static void print_service(const struct doctor *d, const struct service *s)
{
	bool brief = d->nservices > 1;
	size_t most = brief ? PEERS_SHOWN_BRIEF : PEERS_SHOWN;

	print_head(s);
	findings_print(&d->findings, s->about, brief);
	if (s->peers.n)
		text_table(columns, NCOLUMNS, s->peers.n < most ? s->peers.n : most, cell, s);
	if (s->peers.n > most)
		printf("  ... %zu more: tailban conns --port %u\n", s->peers.n - most, s->ports[0]);
}

static void print_end(const struct doctor *d)
{
	size_t counts[] = {[FINDING_OK] = 0, [FINDING_WARN] = 0, [FINDING_FAIL] = 0};

	for (size_t i = 0; i < d->findings.n; i++)
		counts[d->findings.list[i].level]++;
	if (d->left)
		printf("not looked at: %zu more %s (tailban doctor --port PORT)\n", d->left,
		       d->left == 1 ? "service" : "services");
	text_styled(counts[FINDING_FAIL]   ? TEXT_BAD
		    : counts[FINDING_WARN] ? TEXT_WARN
					   : TEXT_GOOD,
		    "%zu FAIL, %zu WARN, %zu OK\n", counts[FINDING_FAIL], counts[FINDING_WARN],
		    counts[FINDING_OK]);
}

static void print_page(const struct doctor *d)
{
	for (size_t i = 0; i < d->nservices; i++)
		print_service(d, d->services[i]);
	text_styled(TEXT_HEAD, "this machine, and tailban\n");
	findings_print(&d->findings, DOCTOR_MACHINE, false);
	findings_print(&d->findings, DOCTOR_KERNEL, false);
	findings_print(&d->findings, DOCTOR_TAILBAN, false);
	findings_print(&d->findings, DOCTOR_LOGS, false);
	print_end(d);
}

static void print_json(const struct doctor *d)
{
	json_t *services = json_array(), *o;

	for (size_t i = 0; i < d->nservices; i++)
		json_array_append_new(services, doctor_service_json(d, d->services[i]));
	o = json_pack("{s:o, s:o, s:I, s:O, s:O, s:O}", "findings", findings_json(&d->findings),
		      "services", services, "services_left_out", (json_int_t)d->left, "system",
		      d->system, "kernel", d->kernel, "daemon", d->daemon);
	link_print(o);
	json_decref(o);
}

/* --- the looks -------------------------------------------------------------------------------- */

static void sample(struct doctor *d, unsigned which)
{
	d->looked_ns[which] = clock_now().mono_ns;
	for (size_t i = 0; i < d->nservices; i++)
		doctor_sample(d->services[i], which);
	(void)netstat_read(getpid(), &d->counters[which]);
}

static void wait_for_sample(const struct doctor *d)
{
	int64_t left_ns = d->looked_ns[0] + DOCTOR_SAMPLE_NS - clock_now().mono_ns;
	const struct timespec rest = {.tv_nsec = left_ns};

	if (left_ns > 0)
		nanosleep(&rest, NULL);
}

static void look(struct doctor *d)
{
	doctor_find(d);
	for (size_t i = 0; i < d->nservices; i++)
		doctor_whose(d, d->services[i]);
	sample(d, 0);
	for (size_t i = 0; i < d->nservices; i++)
		doctor_look(d, d->services[i]);
	wait_for_sample(d);
	sample(d, 1);
	doctor_host(d);
	for (size_t i = 0; i < d->nservices; i++)
		doctor_judge(d, d->services[i]);
	doctor_daemon(d);
}

static int run(struct doctor *d)
{
	struct netlist gateways = {0};
	int r = sockdiag_open(d->sd, NULL);

	if (r < 0) {
		client_complain("the kernel does not list its sockets: %s", error_name(r));
		return CLIENT_AWAY;
	}
	hostaddr_read(&d->own, &gateways);
	netlist_free(&gateways);
	d->privileged = process_can(CAP_SYS_PTRACE);
	d->system = json_object();
	d->kernel = json_object();
	d->daemon = json_object();
	d->status = present_status(d->client, &d->daemon_error);
	look(d);
	sockdiag_close(d->sd);
	if (d->client->json)
		print_json(d);
	else
		print_page(d);
	return findings_has(&d->findings, FINDING_FAIL) ? CLIENT_NO : CLIENT_YES;
}

static void tear_down(struct doctor *d)
{
	for (size_t i = 0; i < d->nservices; i++)
		doctor_service_free(d->services[i]);
	free(d->listening);
	findings_free(&d->findings);
	netlist_free(&d->own);
	json_decref(d->system);
	json_decref(d->kernel);
	json_decref(d->daemon);
	json_decref(d->status);
}

static int check_log(const struct client *c, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return client_usage(c, "cannot read '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return client_usage(c, "'%s' is no regular file", path);
	return CLIENT_YES;
}

int doctor_command(struct client *c, int argc, char **argv)
{
	struct sockdiag sd;
	struct doctor d = {.client = c, .sd = &sd};
	const char *port = NULL;
	const struct option own[] = {
		{"port", 'p', &port, NULL}, {"log", 'l', &d.log, NULL}, {NULL, 0, NULL, NULL}};
	int n = options_parse(c, argc, argv, own, false), r;

	if (n < 0)
		return options_status(c);
	if (n > 0)
		return client_usage(c, "unexpected argument '%s'", argv[1]);
	if (port && d.log)
		return client_usage(c, "either --port or --log");
	if (port && !options_port(c, port, &d.port))
		return CLIENT_USAGE;
	if (d.log && check_log(c, d.log) != CLIENT_YES)
		return CLIENT_USAGE;
	text_set_up(c);
	r = run(&d);
	tear_down(&d);
	return r;
}
