/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines a second that the detector takes: the shipped werkzeug jails on a generated log in which
 * one line of a hundred is hostile, read as the engine reads it (blocks of 256 KiB), beside `wc -l`
 * on the same file.
 *
 * The log is made of fixed shapes with changing addresses, paths and seconds. Nothing is banned, so
 * every line goes the whole way. The best of ROUNDS rounds of each counts: this is for information,
 * no test.
 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "daemon/engine/detector.h"

#define BLOCK_BYTES (256u << 10)
#define ROUNDS 3
#define JAILS_MAX 16u
#define HOSTILE_EVERY 100u
#define NEVER 1000 /* maxretry */

struct log {
	char *text;
	size_t n, lines, hostile;
};

/* --- the log ---------------------------------------------------------------------------------- */

static const char *const honest[] = {
	"\"GET /hello_world?name=hejian HTTP/1.1\" 200 -",
	"\"GET /static/site.css HTTP/1.1\" 304 -",
	"\"GET /orders/list?page=%u HTTP/1.1\" 200 -",
	"\"POST /api/v1/items HTTP/1.1\" 201 -",
	"\"GET /static/app.js HTTP/1.1\" 200 -",
	"\"GET /favicon.ico HTTP/1.1\" 404 -",
	"\"GET /reports/daily/%u HTTP/1.1\" 200 -",
	"\"GET / HTTP/1.1\" 302 -",
};
static const char *const hostile[] = {
	"code 400, message Bad request syntax ('123')",
	"\"GET /.env.%u HTTP/1.1\" 404 -",
	"\"POST /login HTTP/1.1\" 401 -",
	"\"GET /wp-login.php?x=%u HTTP/1.1\" 404 -",
};

/* An address of its own for every hundred lines; the second changes every thousand. */
static size_t write_line(char *at, size_t room, size_t number, time_t begin)
{
	const bool bad = number % HOSTILE_EVERY == 0;
	const size_t kind = number / HOSTILE_EVERY;
	time_t second = begin + (time_t)(number / 1000);
	char date[32], address[16];
	struct tm tm;
	int n;

	localtime_r(&second, &tm);
	strftime(date, sizeof date, "%d/%b/%Y %H:%M:%S", &tm);
	lab_text(UINT32_C(0xc6120000) + (uint32_t)(number * 7919 % 65536), address);
	n = snprintf(at, room, "%s - - [%s] ", address, date);
	n += snprintf(at + n, room - (size_t)n,
		      bad ? hostile[kind % 4] : honest[number % (sizeof honest / sizeof honest[0])],
		      (unsigned)number);
	at[n] = '\n';
	return (size_t)n + 1;
}

static struct log make_log(size_t lines)
{
	struct log l = {.lines = lines, .hostile = lines / HOSTILE_EVERY};
	time_t begin = time(NULL) - (time_t)(lines / 1000);

	l.text = malloc(lines * 160);
	if (!l.text)
		bench_die("out of memory");
	for (size_t i = 1; i <= lines; i++)
		l.n += write_line(l.text + l.n, 160, i, begin);
	return l;
}

/* --- the detector ----------------------------------------------------------------------------- */

static void count_offence(void *ctx, const struct detector_offence *o)
{
	(void)o;
	++*(uint64_t *)ctx;
}

static void no_ban(void *ctx, const struct detector_offence *o, int64_t duration_s, unsigned before)
{
	(void)ctx;
	(void)o;
	(void)duration_s;
	(void)before;
}

static void no_notice(void *ctx, const struct detector_file *file, const char *text)
{
	(void)ctx;
	(void)file;
	(void)text;
}

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		bench_die("mmap: %s", strerror(errno));
	return p;
}

static void load(const char *datadir, struct conf *conf)
{
	const char *const path = "/tmp/no-such-log";
	struct conf_errors errs = {0};

	if (conf_quick(&path, 1, datadir, conf, &errs) < 0)
		bench_die("%s: %s", errs.items[0].file, errs.items[0].text);
	for (size_t i = 0; i < conf->njails; i++)
		for (size_t k = 0; k < conf->jails[i].nrules; k++)
			if (conf->jails[i].rules[k].maxretry < NEVER)
				conf->jails[i].rules[k].maxretry = NEVER;
}

static size_t whole_lines(const struct log *l, size_t at)
{
	size_t n = l->n - at < BLOCK_BYTES ? l->n - at : BLOCK_BYTES;

	while (l->text[at + n - 1] != '\n')
		n--;
	return n;
}

/* Lines a second of one round; the offences go to *ret_offences. */
static double run_round(const struct conf *conf, const struct log *l, uint64_t *ret_offences)
{
	static const struct detector_hooks hooks = {
		.offence = count_offence, .ban = no_ban, .notice = no_notice};
	struct detector_memory memory = {.seed = hash_seed_new()};
	struct detector_file file = {.path = "generated"};
	struct bans *bans = bans_new(16);
	struct ignore *ignore = ignore_new();
	struct detector *detector;
	uint16_t jails[JAILS_MAX];
	struct error err = {0};
	int64_t begin_ns, end_ns;

	for (size_t i = 0; i < conf->njails && i < JAILS_MAX; i++)
		jails[i] = (uint16_t)i;
	detector_sizes(conf, &memory.ledger_bytes, &memory.growth_bytes);
	memory.ledger = map(memory.ledger_bytes);
	memory.growth = map(memory.growth_bytes);
	*ret_offences = 0;
	if (detector_new(conf, &memory, bans, ignore, &hooks, ret_offences, &detector, &err) < 0)
		bench_die("%s", err.text);
	begin_ns = bench_now_ns();
	for (size_t at = 0, n; at < l->n; at += n) {
		n = whole_lines(l, at);
		detector_block(detector, &file, jails, conf->njails, slice_of(l->text + at, n), at,
			       clock_now(), false);
	}
	end_ns = bench_now_ns();
	detector_free(detector);
	munmap(memory.ledger, memory.ledger_bytes);
	munmap(memory.growth, memory.growth_bytes);
	bans_free(bans);
	ignore_free(ignore);
	return (double)l->lines * 1e9 / (double)(end_ns - begin_ns);
}

/* --- wc --------------------------------------------------------------------------------------- */

static void save(const struct log *l, char path[static 32])
{
	size_t done = 0;
	int fd;

	snprintf(path, 32, "/tmp/bench-lines-XXXXXX");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		bench_die("%s: %s", path, strerror(errno));
	while (done < l->n) {
		ssize_t n = write(fd, l->text + done, l->n - done);

		if (n <= 0)
			bench_die("%s: %s", path, strerror(errno));
		done += (size_t)n;
	}
	close(fd);
}

static double run_wc(const struct log *l, const char *path)
{
	char command[80];
	const char *const argv[] = {"sh", "-c", command, NULL};
	int64_t begin_ns = bench_now_ns();

	snprintf(command, sizeof command, "exec wc -l %s >/dev/null", path);
	if (lab_run(argv, NULL) != 0)
		bench_die("wc fails");
	return (double)l->lines * 1e9 / (double)(bench_now_ns() - begin_ns);
}

/* --- main ------------------------------------------------------------------------------------- */

static int usage(void)
{
	fputs("usage: bench_lines [--json] [--lines N] [--datadir DIR]\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"lines", required_argument, NULL, 'n'},
						{"datadir", required_argument, NULL, 'D'},
						{NULL, 0, NULL, 0}};
	const char *datadir = getenv("TAILBAN_DATADIR");
	double best = 0, wc = 0, r;
	size_t lines = 300000;
	uint64_t offences;
	struct conf conf;
	struct log l;
	char path[32];
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'n':
			lines = strtoul(optarg, NULL, 10);
			break;
		case 'D':
			datadir = optarg;
			break;
		default:
			return usage();
		}
	}
	if (lines < HOSTILE_EVERY || optind < argc)
		return usage();
	load(datadir ? datadir : ".", &conf);
	l = make_log(lines);
	save(&l, path);
	for (int i = 0; i < ROUNDS; i++) {
		r = run_round(&conf, &l, &offences);
		best = r > best ? r : best;
		r = run_wc(&l, path);
		wc = r > wc ? r : wc;
	}
	unlink(path);
	conf_free(&conf);
	if (json)
		printf("{\"lines\": %zu, \"hostile\": %zu, \"offences\": %llu, \"lines_per_s\": "
		       "%.0f, "
		       "\"wc_lines_per_s\": %.0f}\n",
		       l.lines, l.hostile, (unsigned long long)offences, best, wc);
	else
		printf("detector: %.0f lines/s (%zu lines, %zu hostile, %llu offences with the "
		       "rate "
		       "filter); wc -l: %.0f lines/s\n",
		       best, l.lines, l.hostile, (unsigned long long)offences, wc);
	free(l.text);
	return 0;
}
