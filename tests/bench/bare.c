/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The least that a ban can cost: one thread from inotify to the acknowledgement; see bench.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tests/bench/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "daemon/base/slice.h"
#include "daemon/base/sockdiag.h"

#define SET "b"
#define CHUNK 1000u
#define PENDING_MAX 4096u
#define READ_BYTES (256u << 10)
#define BAN_MS (3600u * 1000u)

struct work {
	struct bare *bare;
	struct mnl_socket *nl;
	struct sockdiag diag;
	pcre2_code *code;
	pcre2_match_data *match;
	uint32_t seq;
	uint32_t pending[PENDING_MAX];
	size_t npending;
	uint8_t wanted[LAB_CLIENTS / 8]; /* of which the sockets are to go */
	struct sock_kill kills[SOCKDIAG_BATCH];
	size_t nkills;
	bool stop;
	char text[READ_BYTES];
	size_t ntext;
	char batch[256u << 10];
};

/* --- ban -------------------------------------------------------------------------------------- */

static size_t build(struct work *w, const uint32_t *clients, size_t n)
{
	struct nftnl_set *set = nftnl_set_alloc();
	struct nlmsghdr *nlh;
	char *at = w->batch;

	nlh = nftnl_batch_begin(at, ++w->seq);
	at += nlh->nlmsg_len;
	nlh = nftnl_nlmsg_build_hdr(at, NFT_MSG_NEWSETELEM, NFPROTO_INET, NLM_F_CREATE | NLM_F_ACK,
				    ++w->seq);
	nftnl_set_set_str(set, NFTNL_SET_TABLE, BARE_TABLE);
	nftnl_set_set_str(set, NFTNL_SET_NAME, SET);
	for (size_t i = 0; i < n; i++) {
		struct nftnl_set_elem *elem = nftnl_set_elem_alloc();
		const uint32_t key = htonl(clients[i]);

		nftnl_set_elem_set(elem, NFTNL_SET_ELEM_KEY, &key, sizeof key);
		nftnl_set_elem_set_u64(elem, NFTNL_SET_ELEM_TIMEOUT, BAN_MS);
		nftnl_set_elem_add(set, elem);
	}
	nftnl_set_elems_nlmsg_build_payload(nlh, set);
	nftnl_set_free(set);
	at += nlh->nlmsg_len;
	nlh = nftnl_batch_end(at, ++w->seq);
	return (size_t)(at + nlh->nlmsg_len - w->batch);
}

static void ban(struct work *w, const uint32_t *clients, size_t n)
{
	char answer[8192];
	ssize_t got;

	if (mnl_socket_sendto(w->nl, w->batch, build(w, clients, n)) < 0)
		bench_die("the bare path cannot send: %s", strerror(errno));
	got = mnl_socket_recvfrom(w->nl, answer, sizeof answer);
	if (got < 0 || mnl_cb_run(answer, (size_t)got, 0, 0, NULL, NULL) < 0)
		bench_die("the bare path is refused: %s", strerror(errno));
}

/* --- kill ------------------------------------------------------------------------------------- */

static void destroy(struct work *w)
{
	struct sockdiag_killed killed = {0};

	if (w->nkills && sockdiag_destroy_batch(&w->diag, w->kills, w->nkills, &killed) < 0)
		bench_die("the bare path cannot destroy sockets");
	w->nkills = 0;
}

struct found {
	struct work *w;
	struct sock_kill *list;
	size_t n, room;
};

static void take_socket(void *ctx, const struct sock_info *sock)
{
	struct found *f = ctx;
	uint32_t peer;

	memcpy(&peer, sock->peer.b, sizeof peer);
	peer = ntohl(peer) - LAB_FIRST_CLIENT;
	if (peer < LAB_CLIENTS && f->w->wanted[peer / 8] & 1u << peer % 8 && f->n < f->room)
		f->list[f->n++] = sock_kill_of(sock);
}

static void kill_peers(struct work *w)
{
	static struct sock_kill list[PENDING_MAX];
	struct found f = {w, list, 0, PENDING_MAX};

	for (size_t i = 0; i < w->npending; i++) {
		uint32_t bit = w->pending[i] - LAB_FIRST_CLIENT;

		w->wanted[bit / 8] |= (uint8_t)(1u << bit % 8);
	}
	if (sockdiag_each(&w->diag, AF_INET, SOCK_CONNECTED, LAB_PORT, take_socket, &f) < 0)
		bench_die("the bare path cannot dump sockets");
	for (size_t i = 0; i < f.n; i++) {
		w->kills[w->nkills++] = list[i];
		if (w->nkills == SOCKDIAG_BATCH)
			destroy(w);
	}
	destroy(w);
}

/* --- lines ------------------------------------------------------------------------------------ */

static void one_line(struct work *w, struct slice line)
{
	PCRE2_SIZE *at;
	char address[16];
	struct in_addr in;

	if (slice_eq(line, SLICE("stop"))) {
		w->stop = true;
		return;
	}
	if (pcre2_match(w->code, (PCRE2_SPTR)line.p, line.n, 0, 0, w->match, NULL) < 2)
		return;
	at = pcre2_get_ovector_pointer(w->match);
	if (at[3] - at[2] >= sizeof address || w->npending == PENDING_MAX)
		return;
	memcpy(address, line.p + at[2], at[3] - at[2]);
	address[at[3] - at[2]] = 0;
	if (inet_pton(AF_INET, address, &in) == 1)
		w->pending[w->npending++] = ntohl(in.s_addr);
}

static void read_log(struct work *w)
{
	struct slice text, line;
	ssize_t n;

	while ((n = read(w->bare->log_fd, w->text + w->ntext, READ_BYTES - w->ntext)) > 0) {
		text = slice_of(w->text, w->ntext + (size_t)n);
		for (;;) {
			size_t end = slice_find(text, '\n');

			if (end == text.n)
				break;
			line = slice_head(text, end);
			one_line(w, line);
			text = slice_skip(text, end + 1);
		}
		w->ntext = text.n;
		memmove(w->text, text.p, text.n);
	}
}

static void *run(void *arg)
{
	struct work *w = arg;
	char events[4096];

	while (!w->stop && read(w->bare->inotify_fd, events, sizeof events) > 0) {
		w->npending = 0;
		read_log(w);
		for (size_t i = 0; i < w->npending; i += CHUNK)
			ban(w, w->pending + i, w->npending - i < CHUNK ? w->npending - i : CHUNK);
		if (w->npending && w->bare->kill)
			kill_peers(w);
	}
	mnl_socket_close(w->nl);
	sockdiag_close(&w->diag);
	pcre2_match_data_free(w->match);
	pcre2_code_free(w->code);
	free(w);
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

static void compile(struct work *w)
{
	static const char text[] = "^(\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}) - - "
				   "\\[[^\\]]*\\] code 400, message Bad request syntax";
	PCRE2_SIZE at;
	int error;

	w->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, &error, &at, NULL);
	if (!w->code)
		bench_die("the bare path's expression: error %d", error);
	pcre2_jit_compile(w->code, PCRE2_JIT_COMPLETE);
	w->match = pcre2_match_data_create_from_pattern(w->code, NULL);
}

static void make_table(void)
{
	const char *const argv[] = {"nft", "-f", "-", NULL};

	if (lab_run(argv, "table inet " BARE_TABLE " {\n"
			  " set " SET " { type ipv4_addr; flags timeout; counter; size 1000000; }\n"
			  " chain c { type filter hook prerouting priority -300;\n"
			  "  ip saddr @" SET " drop; }\n}\n") != 0)
		bench_die("nft cannot make the bare path's table");
}

void bare_start(struct bare *b, const char *log)
{
	struct work *w = calloc(1, sizeof *w);
	struct error err = {0};

	if (!w)
		bench_die("out of memory");
	make_table();
	w->bare = b;
	b->log_fd = open(log, O_RDONLY | O_CLOEXEC);
	b->inotify_fd = inotify_init1(IN_CLOEXEC);
	if (b->log_fd < 0 || inotify_add_watch(b->inotify_fd, log, IN_MODIFY) < 0)
		bench_die("%s: %s", log, strerror(errno));
	w->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!w->nl || mnl_socket_bind(w->nl, 0, MNL_SOCKET_AUTOPID) < 0)
		bench_die("netlink: %s", strerror(errno));
	if (sockdiag_open(&w->diag, &err) < 0)
		bench_die("%s", err.text);
	compile(w);
	if (pthread_create(&b->thread, NULL, run, w) != 0)
		bench_die("cannot make a thread");
}

void bare_stop(struct bare *b, int log_fd)
{
	if (write(log_fd, "stop\n", 5) != 5)
		bench_die("cannot stop the bare path: %s", strerror(errno));
	pthread_join(b->thread, NULL);
	close(b->log_fd);
	close(b->inotify_fd);
}
