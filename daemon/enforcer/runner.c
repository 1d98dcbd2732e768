/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command actions: see runner.h. A job that cannot be started ends at once with its errno as
 * status. */
#include "daemon/enforcer/runner.h"

#include "daemon/base/clock.h"
#include "daemon/base/escape.h"
#include "daemon/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXED_ENVIRONMENT 3u
#define OUTPUT_LINES_MAX 16u
#define OUTPUT_LINE_BYTES 1024u
#define READS_A_WAKEUP 16

struct runner_job {
	struct runner_job *next;
	unsigned action;
	enum runner_event event;
	char *env[FIXED_ENVIRONMENT + 1 + RUNNER_KEYS + 1]; /* points into text[] or at literals */
	char text[];
};

/* A place in which a job runs. */
struct slot {
	struct runner *r;
	struct runner_job *job; /* NULL: free */
	pid_t pid;
	bool timed_out;
	size_t nout;      /* bytes in out[] */
	uint64_t nbeyond; /* bytes that came after them */
	int output_fd;
	int start_error;
	ev_child child;
	ev_timer timer;
	ev_io output;
	char out[RUNNER_OUTPUT_BYTES];
};

struct runner {
	struct ev_loop *loop;
	const struct runner_action *actions;
	size_t nactions;
	size_t share; /* of the queue, for one action name */
	runner_done_callback *done;
	void *ctx;
	struct runner_job *first, **last;
	struct runner_stats stats;
	struct log_gate drop_gate;
	struct slot slots[RUNNER_PARALLEL];
};

#define RUNNER_SECOND_COLUMN(name, text) [name] = (text),
static const char *const event_names[RUNNER_EVENTS] = {RUNNER_EVENT_TABLE(RUNNER_SECOND_COLUMN)};
static const char *const key_names[RUNNER_KEYS] = {RUNNER_KEY_TABLE(RUNNER_SECOND_COLUMN)};

const char *runner_event_name(enum runner_event event)
{
	return (unsigned)event < RUNNER_EVENTS ? event_names[event] : "?";
}

const char *runner_key_name(enum runner_key key)
{
	return (unsigned)key < RUNNER_KEYS ? key_names[key] : "?";
}

static void start_waiting(struct runner *r);

/* The child's side. Only async-signal-safe calls from here to execve. */
_Noreturn static void run_command(const char *command, char *const env[], int output, pid_t parent)
{
	char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)(uintptr_t)command, NULL};
	struct sigaction fresh = {.sa_handler = SIG_DFL};
	sigset_t none;
	int null;

	setsid();
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &fresh, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	null = open("/dev/null", O_RDWR);
	if (chdir("/") < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0 ||
	    dup2(null, STDIN_FILENO) < 0 || close_range(3, ~0u, 0) < 0)
		_exit(126);
	execve("/bin/sh", argv, env);
	_exit(127);
}

/* The pipe's ends are put above stdio, since dup2 in the child must not overwrite one with the
 * other. */
static int high_pipe(int ret_fds[2])
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		ret_fds[i] = fcntl(pair[i], F_DUPFD_CLOEXEC, 3);
		close(pair[i]);
	}
	if (ret_fds[0] >= 0 && ret_fds[1] >= 0 && fcntl(ret_fds[0], F_SETFL, O_NONBLOCK) == 0)
		return 0;
	for (int i = 0; i < 2; i++)
		if (ret_fds[i] >= 0)
			close(ret_fds[i]);
	return -EMFILE;
}

/* 0 with pid and output_fd set, or errno. */
static int spawn(struct slot *s)
{
	const struct runner_job *job = s->job;
	const char *command = s->r->actions[job->action].commands[job->event];
	sigset_t all, before;
	pid_t parent = getpid();
	int fds[2] = {-1, -1}, r;

	r = high_pipe(fds);
	if (r < 0)
		return r;
	/* A signal must not run the parent's handlers in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	s->pid = fork();
	if (s->pid == 0)
		run_command(command, job->env, fds[1], parent);
	r = s->pid < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(fds[1]);
	if (r < 0)
		close(fds[0]);
	else
		s->output_fd = fds[0];
	return r;
}

/* A child that has just been forked has no group of its own yet. */
static void signal_job(const struct slot *s, int sig)
{
	if (kill(-s->pid, sig) < 0)
		kill(s->pid, sig);
}

static const char *action_name(const struct slot *s)
{
	return s->r->actions[s->job->action].name;
}

/* Takes what lies in the pipe. False when nothing more will come. */
static bool drain(struct slot *s, int reads)
{
	static char beyond[4096]; /* never looked at */

	while (reads-- > 0) {
		size_t room = sizeof s->out - s->nout;
		ssize_t n = read(s->output_fd, room ? s->out + s->nout : beyond,
				 room ? room : sizeof beyond);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (room)
			s->nout += (size_t)n;
		else
			s->nbeyond += (uint64_t)n;
	}
	return true;
}

static void close_output(struct slot *s)
{
	if (s->output_fd < 0)
		return;
	ev_io_stop(s->r->loop, &s->output);
	close(s->output_fd);
	s->output_fd = -1;
}

static void on_output(struct ev_loop *loop, ev_io *w, int revents)
{
	struct slot *s = w->data;

	(void)loop;
	(void)revents;
	if (!drain(s, READS_A_WAKEUP))
		close_output(s);
}

static void log_output(const struct slot *s, enum log_level level)
{
	struct slice rest = slice_of(s->out, s->nout), line;
	char text[OUTPUT_LINE_BYTES];
	unsigned lines = 0;

	while (rest.n && lines < OUTPUT_LINES_MAX) {
		size_t end = slice_find(rest, '\n');

		line = slice_trim(slice_head(rest, end));
		rest = slice_skip(rest, end + 1);
		if (!line.n)
			continue;
		escape_text(text, sizeof text, line);
		log_write(level, "runner", "%s (%s): %s", action_name(s),
			  event_names[s->job->event], text);
		lines++;
	}
	if (rest.n || s->nbeyond)
		log_write(level, "runner", "%s (%s): %llu more bytes of output", action_name(s),
			  event_names[s->job->event], (unsigned long long)rest.n + s->nbeyond);
}

static void log_end(const struct slot *s, int status)
{
	const char *name = action_name(s), *event = event_names[s->job->event];

	if (status < 0)
		log_warning("runner", "%s (%s) cannot be started: %s", name, event,
			    error_name(status));
	else if (s->timed_out)
		log_warning("runner", "%s (%s) was ended after its time-out", name, event);
	else if (status >= 256)
		log_warning("runner", "%s (%s) was ended by signal %d", name, event, status - 256);
	else if (status)
		log_warning("runner", "%s (%s) ended with status %d", name, event, status);
	else
		log_debug("runner", "%s (%s) is done", name, event);
}

/* Frees the slot, tells the owner, gives the place to the next one. */
static void finish(struct slot *s, int status)
{
	struct runner *r = s->r;
	struct runner_done done = {s->job->action, s->job->event, status, s->timed_out};

	ev_timer_stop(r->loop, &s->timer);
	log_output(s, status || s->timed_out ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO);
	log_end(s, status);
	close_output(s);
	free(s->job);
	s->job = NULL;
	r->stats.running--;
	r->stats.failed += status || s->timed_out;
	r->stats.timed_out += s->timed_out;
	if (r->done)
		r->done(r->ctx, &done);
	start_waiting(r);
}

static void on_child(struct ev_loop *loop, ev_child *w, int revents)
{
	struct slot *s = w->data;
	int status = w->rstatus;

	(void)revents;
	ev_child_stop(loop, w);
	/* The shell is gone, others of its group that ignored SIGTERM may be there. */
	if (s->timed_out)
		kill(-s->pid, SIGKILL);
	if (s->output_fd >= 0)
		drain(s, READS_A_WAKEUP);
	finish(s, WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct slot *s = w->data;

	(void)revents;
	if (s->start_error) {
		finish(s, s->start_error);
		return;
	}
	signal_job(s, s->timed_out ? SIGKILL : SIGTERM);
	if (s->timed_out)
		return;
	s->timed_out = true;
	ev_timer_set(w, RUNNER_GRACE_S, 0.);
	ev_timer_start(loop, w);
}

static double timeout_s(const struct runner_action *action)
{
	return (action->timeout_ms ? action->timeout_ms : RUNNER_TIMEOUT_DEFAULT_MS) / 1000.0;
}

/* A job that cannot be started ends by the timer, so that `done` is not called from runner_submit.
 */
static void start(struct slot *s, struct runner_job *job)
{
	struct runner *r = s->r;

	s->job = job;
	s->timed_out = false;
	s->nout = 0;
	s->nbeyond = 0;
	s->output_fd = -1;
	s->start_error = spawn(s);
	r->stats.running++;
	ev_now_update(r->loop);
	ev_timer_set(&s->timer, s->start_error ? 0. : timeout_s(&r->actions[job->action]), 0.);
	ev_timer_start(r->loop, &s->timer);
	if (s->start_error)
		return;
	r->stats.started++;
	ev_child_set(&s->child, s->pid, 0);
	ev_child_start(r->loop, &s->child);
	ev_io_set(&s->output, s->output_fd, EV_READ);
	ev_io_start(r->loop, &s->output);
}

static bool same_name(const struct runner *r, unsigned a, unsigned b)
{
	return a == b || strcmp(r->actions[a].name, r->actions[b].name) == 0;
}

static bool is_running(const struct runner *r, unsigned action)
{
	for (size_t i = 0; i < RUNNER_PARALLEL; i++)
		if (r->slots[i].job && same_name(r, r->slots[i].job->action, action))
			return true;
	return false;
}

/* The first waiting job whose name does not run yet, out of the queue. */
static struct runner_job *next_job(struct runner *r)
{
	for (struct runner_job **at = &r->first; *at; at = &(*at)->next) {
		struct runner_job *job = *at;

		if (is_running(r, job->action))
			continue;
		*at = job->next;
		if (!*at)
			r->last = at;
		r->stats.waiting--;
		return job;
	}
	return NULL;
}

static void start_waiting(struct runner *r)
{
	for (size_t i = 0; i < RUNNER_PARALLEL; i++) {
		struct runner_job *job;

		if (r->slots[i].job)
			continue;
		job = next_job(r);
		if (!job)
			return;
		start(&r->slots[i], job);
	}
}

static int check_value(const struct runner_value *value, uint32_t *seen)
{
	_Static_assert(RUNNER_KEYS <= 32, "keys are bits of a word");
	if ((unsigned)value->key >= RUNNER_KEYS || (*seen & UINT32_C(1) << value->key))
		return -EINVAL;
	*seen |= UINT32_C(1) << value->key;
	return value->text.n > RUNNER_VALUE_BYTES ? -E2BIG : 0;
}

/* "KEY=value" without NULs; returns where the next one may start. */
static char *put_variable(char *to, const char *key, struct slice value)
{
	size_t n = strlen(key);

	memcpy(to, key, n);
	to += n;
	*to++ = '=';
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i])
			*to++ = value.p[i];
	*to++ = 0;
	return to;
}

static struct runner_job *make_job(unsigned action, enum runner_event event,
				   const struct runner_value *values, size_t nvalues)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char home[] = "HOME=/", lang[] = "LANG=C";
	size_t bytes = 64, n = 0;
	struct runner_job *job;
	char *to;

	for (size_t i = 0; i < nvalues; i++)
		bytes += strlen(key_names[values[i].key]) + values[i].text.n + 2;
	job = malloc(sizeof *job + bytes);
	if (!job)
		return NULL;
	*job = (struct runner_job){.action = action, .event = event};
	job->env[n++] = path;
	job->env[n++] = home;
	job->env[n++] = lang;
	to = job->text;
	job->env[n++] = to;
	to = put_variable(to, "TAILBAN_EVENT", slice_str(event_names[event]));
	for (size_t i = 0; i < nvalues; i++) {
		job->env[n++] = to;
		to = put_variable(to, key_names[values[i].key], values[i].text);
	}
	job->env[n] = NULL;
	return job;
}

static bool has_room(const struct runner *r, unsigned action)
{
	size_t same = 0;

	if (r->stats.waiting >= RUNNER_QUEUE_MAX)
		return false;
	for (const struct runner_job *job = r->first; job; job = job->next)
		same += same_name(r, job->action, action);
	return same < r->share;
}

static int drop(struct runner *r, unsigned action, int error)
{
	r->stats.dropped++;
	if (log_gate_open(&r->drop_gate, clock_now().mono_ns, 1, 60))
		log_warning("runner", "a job of %s is dropped: %s; %llu dropped since start",
			    r->actions[action].name, error_name(error),
			    (unsigned long long)r->stats.dropped);
	return error;
}

int runner_submit(struct runner *r, unsigned action, enum runner_event event,
		  const struct runner_value *values, size_t nvalues)
{
	struct runner_job *job;
	uint32_t seen = 0;
	int e;

	if (action >= r->nactions || (unsigned)event >= RUNNER_EVENTS || nvalues > RUNNER_KEYS)
		return -EINVAL;
	for (size_t i = 0; i < nvalues; i++) {
		e = check_value(&values[i], &seen);
		if (e < 0)
			return e;
	}
	if (!r->actions[action].commands[event])
		return 0;
	if (!has_room(r, action))
		return drop(r, action, -ENOBUFS);
	job = make_job(action, event, values, nvalues);
	if (!job)
		return drop(r, action, -ENOMEM);
	*r->last = job;
	r->last = &job->next;
	r->stats.waiting++;
	start_waiting(r);
	return 1;
}

static bool has_several_names(const struct runner_action *actions, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (strcmp(actions[0].name, actions[i].name) != 0)
			return true;
	return false;
}

struct runner *runner_new(struct ev_loop *loop, const struct runner_action *actions,
			  size_t nactions, runner_done_callback *done, void *ctx)
{
	struct runner *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->loop = loop;
	r->actions = actions;
	r->nactions = nactions;
	r->share = has_several_names(actions, nactions) ? RUNNER_QUEUE_MAX / 2 : RUNNER_QUEUE_MAX;
	r->done = done;
	r->ctx = ctx;
	r->last = &r->first;
	for (size_t i = 0; i < RUNNER_PARALLEL; i++) {
		struct slot *s = &r->slots[i];

		s->r = r;
		s->output_fd = -1;
		ev_child_init(&s->child, on_child, 0, 0);
		ev_timer_init(&s->timer, on_timer, 0., 0.);
		ev_io_init(&s->output, on_output, -1, EV_READ);
		s->child.data = s->timer.data = s->output.data = s;
	}
	return r;
}

struct runner_stats runner_stats(const struct runner *r)
{
	return r->stats;
}

static void abandon(struct slot *s)
{
	if (!s->start_error) {
		ev_child_stop(s->r->loop, &s->child);
		signal_job(s, SIGKILL); /* libev reaps it */
	}
	ev_timer_stop(s->r->loop, &s->timer);
	close_output(s);
	free(s->job);
}

void runner_free(struct runner *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < RUNNER_PARALLEL; i++)
		if (r->slots[i].job)
			abandon(&r->slots[i]);
	while (r->first) {
		struct runner_job *job = r->first;

		r->first = job->next;
		free(job);
	}
	free(r);
}

ssize_t runner_values_pack(const struct runner_value *values, size_t count, char *buf, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		struct slice text = values[i].text;
		uint16_t head[2] = {(uint16_t)values[i].key, (uint16_t)text.n};

		if (text.n > UINT16_MAX || size - used < sizeof head + text.n)
			return -ENOBUFS;
		memcpy(buf + used, head, sizeof head);
		if (text.n)
			memcpy(buf + used + sizeof head, text.p, text.n);
		used += sizeof head + text.n;
	}
	return (ssize_t)used;
}

int runner_values_unpack(struct slice bytes, size_t count,
			 struct runner_value ret_values[RUNNER_KEYS])
{
	uint32_t seen = 0;
	uint16_t head[2];

	if (count > RUNNER_KEYS)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		int e;

		if (bytes.n < sizeof head)
			return -EINVAL;
		memcpy(head, bytes.p, sizeof head);
		bytes = slice_skip(bytes, sizeof head);
		if (bytes.n < head[1])
			return -EINVAL;
		ret_values[i] =
			(struct runner_value){(enum runner_key)head[0], slice_head(bytes, head[1])};
		bytes = slice_skip(bytes, head[1]);
		e = check_value(&ret_values[i], &seen);
		if (e < 0)
			return e;
	}
	return bytes.n ? -EINVAL : 0;
}
