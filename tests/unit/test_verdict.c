/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a census means: limits, offences, the order of closing. Pure: no kernel, no clock. */
#include "daemon/sockets/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MANY 4096u

static const struct verdict_rule RULE = {.silent_ms = 20000,
					 .unanswered_ms = 60000,
					 .stalled_ms = 30000,
					 .idle_ms = 60000,
					 .maxsilent = 6,
					 .descriptors = 80};

/* A service with its connections, filled by the tests. */
struct scene {
	struct verdict verdict;
	struct verdict_rule rule;
	struct verdict_alarm alarm;
	bool starved;
	struct verdict_task task;
	struct held held[MANY];
	uint32_t n;
};

static int set_up(void **state)
{
	static struct scene s;

	s = (struct scene){.rule = RULE, .task = {.limit = 1024, .fds = 10}};
	s.verdict.seed = hash_seed_new();
	*state = &s;
	return 0;
}

static int tear_down(void **state)
{
	verdict_fini(&((struct scene *)*state)->verdict);
	return 0;
}

static struct addr peer(unsigned number)
{
	const uint8_t bytes[4] = {10, 66, (uint8_t)(number >> 8), (uint8_t)number};

	return addr_from_ipv4(bytes);
}

static void add(struct scene *s, unsigned who, enum held_class class, uint32_t age_ms,
		unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		assert_true(s->n < MANY);
		s->held[s->n++] =
			(struct held){.prefix = peer(who),
				      .age_ms = age_ms,
				      .class = (uint8_t) class,
				      .answered = class == HELD_IDLE || class == HELD_WORKS ||
						  class == HELD_DONE};
	}
	s->task.fds += class <= HELD_WORKS ? count : 0;
}

static void judge(struct scene *s, int64_t now_ms)
{
	verdict_limits(&s->verdict, &s->rule, &s->task, 1, s->starved, &s->alarm, now_ms);
	assert_int_equal(verdict_judge(&s->verdict, &s->rule, &s->task, 1, s->held, s->n), 0);
}

static unsigned offences_of(const struct scene *s, unsigned who, enum offence_kind kind)
{
	struct addr a = peer(who);
	unsigned count = 0;

	for (uint32_t i = 0; i < s->verdict.noffences; i++) {
		const struct verdict_offence *o = &s->verdict.offences[i];

		count += o->kind == kind && addr_eq(&s->held[o->index].prefix, &a);
	}
	return count;
}

static unsigned cuts_of(const struct scene *s, unsigned who, bool only_offences)
{
	struct addr a = peer(who);
	unsigned count = 0;

	for (uint32_t i = 0; i < s->verdict.ncuts; i++) {
		const struct verdict_cut *c = &s->verdict.cuts[i];

		count += !c->spare && (!only_offences || c->offence) &&
			 addr_eq(&s->held[c->index].prefix, &a);
	}
	return count;
}

static unsigned needed(const struct scene *s)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < s->verdict.ncuts; i++)
		count += !s->verdict.cuts[i].spare;
	return count;
}

static void test_limit_shrinks(void **state)
{
	(void)state;
	assert_int_equal(verdict_limit(20000, 0, 80), 20000);
	assert_int_equal(verdict_limit(20000, 500, 80), 20000);
	assert_int_equal(verdict_limit(20000, 650, 80), 11000);
	assert_int_equal(verdict_limit(20000, 800, 80), 2000);
	assert_int_equal(verdict_limit(20000, 1000, 80), 2000);
	assert_int_equal(verdict_limit(60000, 800, 80), 6000);
	assert_int_equal(verdict_limit(4000, 800, 80), 2000);
	assert_int_equal(verdict_limit(1000, 800, 80), 1000);
	assert_int_equal(verdict_limit(20000, 1000, 0), 20000);
	assert_int_equal(verdict_limit(20000, 501, 40), 2000);
}

static void test_few_silent_are_none(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 25000, 6);
	judge(s, 1000);
	assert_int_equal(s->verdict.noffences, 0);
	assert_int_equal(s->verdict.due_ms, VERDICT_NEVER_MS);
	add(s, 1, HELD_SILENT, 25000, 3);
	judge(s, 1000);
	assert_int_equal(offences_of(s, 1, OFFENCE_SILENT), 3);
}

static void test_told_once(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 25000, 9);
	judge(s, 1000);
	assert_int_equal(s->verdict.noffences, 3);
	for (uint32_t i = 0; i < s->verdict.noffences; i++)
		s->held[s->verdict.offences[i].index].told |= 1u << OFFENCE_SILENT;
	judge(s, 2000);
	assert_int_equal(s->verdict.noffences, 0);
	add(s, 1, HELD_SILENT, 25000, 1);
	judge(s, 3000);
	assert_int_equal(s->verdict.noffences, 1);
}

static void test_young_silent_are_due(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 12000, 7);
	judge(s, 1000);
	assert_int_equal(s->verdict.noffences, 0);
	assert_int_equal(s->verdict.due_ms, 8000);
}

/* Twenty browsers behind one address: a page and a spare connection each. */
static void test_office_earns_its_spare_connections(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 50000, 20);
	add(s, 1, HELD_DONE, 0, 20);
	judge(s, 1000);
	assert_int_equal(s->verdict.noffences, 0);
	/* But a page for each of a thousand spare ones buys no more than six times maxsilent. */
	add(s, 1, HELD_SILENT, 50000, 80);
	add(s, 1, HELD_DONE, 0, 980);
	judge(s, 1000);
	assert_int_equal(offences_of(s, 1, OFFENCE_SILENT), 100 - 6 - 36);
}

static void test_unanswered_and_stalled(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_UNFINISHED, 60000, 1);
	add(s, 2, HELD_UNFINISHED, 50000, 1);
	add(s, 3, HELD_STALLED, 30000, 2);
	add(s, 4, HELD_UNKNOWN, 600000, 50);
	add(s, 5, HELD_WORKS, 600000, 50);
	add(s, 6, HELD_IDLE, 600000, 50);
	judge(s, 1000);
	assert_int_equal(offences_of(s, 1, OFFENCE_UNANSWERED), 1);
	assert_int_equal(offences_of(s, 3, OFFENCE_STALLED), 2);
	assert_int_equal(s->verdict.noffences, 3);
	assert_int_equal(s->verdict.due_ms, 10000);
}

static void test_shrunk_limits_spare_few(void **state)
{
	struct scene *s = *state;

	s->task.fds = 900;
	add(s, 1, HELD_UNFINISHED, 10000, 6);
	add(s, 2, HELD_UNFINISHED, 10000, 7);
	judge(s, 1000);
	assert_int_equal(s->verdict.unanswered_ms, 6000);
	assert_int_equal(offences_of(s, 1, OFFENCE_UNANSWERED), 0);
	assert_int_equal(offences_of(s, 2, OFFENCE_UNANSWERED), 7);
}

static void test_maxconns(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_WORKS, 0, 12);
	add(s, 1, HELD_HALF_OPEN, 0, 5);
	add(s, 1, HELD_DONE, 0, 50);
	judge(s, 1000);
	assert_int_equal(s->verdict.noffences, 0);
	s->rule.maxconns = 10;
	judge(s, 1000);
	assert_int_equal(offences_of(s, 1, OFFENCE_MAXCONNS), 2);
}

static void test_alarm_holds_until_calm(void **state)
{
	struct scene *s = *state;

	s->task.fds = 900;
	judge(s, 1000);
	assert_true(s->alarm.on);
	assert_int_equal(s->verdict.silent_ms, 2000);
	s->task.fds = 100;
	judge(s, 2000);
	assert_int_equal(s->verdict.silent_ms, 2000);
	s->task.fds = 600;
	judge(s, 11000);
	s->task.fds = 100;
	judge(s, 13000); /* calm begins anew */
	judge(s, 22000);
	assert_true(s->alarm.on);
	judge(s, 23000);
	assert_false(s->alarm.on);
	assert_int_equal(s->verdict.silent_ms, 20000);
}

static void test_no_cut_below_descriptors(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 5000, 800);
	judge(s, 1000);
	assert_int_equal(s->task.fds, 810);
	assert_int_equal(s->verdict.ncuts, 0);
}

static void test_cuts_from_who_holds_most(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 5000, 500);
	add(s, 2, HELD_SILENT, 9000, 300);
	add(s, 3, HELD_SILENT, 99000, 1);
	judge(s, 1000);
	/* 811 of 1024 is 79.1 %: not yet. */
	assert_int_equal(s->verdict.ncuts, 0);
	add(s, 1, HELD_SILENT, 5000, 20);
	judge(s, 1000);
	/* Down to 49 % of 1024, since heavy ones are there; to what the second holds, then by
	 * turns. */
	assert_int_equal(needed(s), 831 - 501);
	assert_int_equal(cuts_of(s, 1, true), 275);
	assert_int_equal(cuts_of(s, 2, true), 55);
	assert_int_equal(cuts_of(s, 3, false), 0);
}

static void test_cut_of_a_thousand_addresses_accuses_nobody(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 0; i < 900; i++)
		add(s, 100 + i, HELD_SILENT, 1000 + i, 1);
	judge(s, 1000);
	assert_int_equal(needed(s), 910 - 768);
	for (uint32_t i = 0; i < s->verdict.ncuts; i++) {
		assert_false(s->verdict.cuts[i].offence);
		/* The oldest first. */
		if (!s->verdict.cuts[i].spare)
			assert_true(s->held[s->verdict.cuts[i].index].age_ms >= 1000 + 900 - 142);
	}
	assert_int_equal(s->verdict.noffences, 0);
}

static void test_never_cut(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_WORKS, 90000, 900);
	add(s, 2, HELD_SILENT, 240, 50);
	add(s, 4, HELD_SILENT, 490, 1);
	add(s, 3, HELD_IDLE, 999, 3);
	judge(s, 1000);
	assert_true(s->alarm.on);
	assert_int_equal(s->verdict.ncuts, 0);
}

static void test_classes_in_order(void **state)
{
	struct scene *s = *state;

	s->task.fds = 850;
	add(s, 1, HELD_IDLE, 50000, 20);
	add(s, 1, HELD_STALLED, 50000, 20);
	add(s, 1, HELD_UNFINISHED, 5000, 20);
	add(s, 1, HELD_SILENT, 3000, 20);
	s->task.fds = 850;
	judge(s, 1000);
	/* Its idle ones earn it as many silent ones, and maxsilent are left to it. */
	assert_int_equal(needed(s), 60 - 20 - 6);
	for (uint32_t i = 1; i < s->verdict.ncuts; i++)
		assert_true(s->held[s->verdict.cuts[i - 1].index].class <=
			    s->held[s->verdict.cuts[i].index].class);
}

static void test_unknown_cut_is_no_offence(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_UNKNOWN, 9000, 900);
	judge(s, 1000);
	assert_int_equal(needed(s), 910 - 501);
	assert_int_equal(cuts_of(s, 1, true), 0);
}

static void test_spare_ones_follow(void **state)
{
	struct scene *s = *state;
	uint32_t first_spare = 0;

	add(s, 1, HELD_SILENT, 9000, 900);
	judge(s, 1000);
	while (!s->verdict.cuts[first_spare].spare)
		first_spare++;
	assert_int_equal(first_spare, 910 - 501);
	assert_true(s->verdict.ncuts > first_spare);
}

/* The few that a person holds are left alone while somebody else holds many. */
static void test_few_wait_for_many(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 100, 700); /* not ripe yet */
	for (unsigned i = 0; i < 120; i++)
		add(s, 100 + i, HELD_UNFINISHED, 5000, 1);
	judge(s, 1000);
	assert_true(s->task.fds * 100 >= 80 * 1024);
	assert_int_equal(s->verdict.ncuts, 0);
	for (uint32_t i = 0; i < 30; i++)
		s->held[i].age_ms = 600;
	judge(s, 1500);
	assert_int_equal(cuts_of(s, 1, false), 30);
	assert_int_equal(needed(s), 30);
	/* Nearly full: nothing is left to wait for. */
	s->task.fds = 1000;
	judge(s, 2000);
	assert_true(needed(s) > 30);
}

/* Keep-alive connections of an office go last, those of who holds only such ones go. */
static void test_rest_is_the_last_tier(void **state)
{
	struct scene *s = *state;

	add(s, 1, HELD_SILENT, 5000, 20); /* an office: 20 browsers */
	add(s, 1, HELD_IDLE, 5000, 20);
	add(s, 2, HELD_SILENT, 900, 800);
	judge(s, 1000);
	assert_true(cuts_of(s, 2, true) > 0);
	assert_int_equal(cuts_of(s, 1, false), 0);
	/* Few are left alone, earned or not. */
	s->n = 40;
	s->task.fds = 50;
	add(s, 3, HELD_IDLE, 3000, 780);
	add(s, 4, HELD_SILENT, 5000, 3);
	judge(s, 2000);
	assert_int_equal(cuts_of(s, 4, false), 0);
	assert_true(cuts_of(s, 3, true) > 0);
	assert_int_equal(cuts_of(s, 1, false), 0);
}

/* Workers are taken, descriptors are not: who holds many over the short limits makes room. */
static void test_few_silent_wait_for_many_that_rest(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 0; i < 24; i++)
		add(s, 100 + i, HELD_SILENT, 4200, 1);
	add(s, 1, HELD_IDLE, 3000, 450);
	add(s, 2, HELD_IDLE, 3000, 450);
	judge(s, 1000);
	assert_true(s->verdict.fill_permille >= VERDICT_LAST_PERMILLE);
	assert_int_equal(cuts_of(s, 1, true) + cuts_of(s, 2, true), needed(s));
	for (unsigned i = 0; i < 24; i++)
		assert_int_equal(cuts_of(s, 100 + i, false), 0);
}

static void test_many_silent_before_few_that_rest(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 0; i < 900; i++)
		add(s, 100 + i, HELD_SILENT, 1000 + i, 1);
	add(s, 1, HELD_IDLE, 3000, 20);
	judge(s, 1000);
	assert_true(s->verdict.ncuts > 100);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(s->held[s->verdict.cuts[i].index].class, HELD_SILENT);
}

/* An event loop: ninety come in a burst with half requests, nobody of them is heavy. */
static void test_burst_before_single_old_ones(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 0; i < 10; i++) {
		add(s, 100 + i, HELD_SILENT, 4200, 1);
		add(s, 100 + i, HELD_IDLE, 4200, 1);
		add(s, 200 + i, HELD_UNKNOWN, 3700, 1);
	}
	for (unsigned i = 0; i < 90; i++)
		add(s, 1 + i, HELD_UNKNOWN, 300, 10);
	judge(s, 1000);
	assert_true(s->verdict.fill_permille >= VERDICT_LAST_PERMILLE);
	assert_true(needed(s) > 20);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(cuts_of(s, 100 + i, false), 0);
		assert_int_equal(cuts_of(s, 200 + i, false), 0);
	}
}

static void test_starved(void **state)
{
	struct scene *s = *state;

	s->starved = true;
	add(s, 1, HELD_UNKNOWN, 7000, 30);
	add(s, 2, HELD_UNKNOWN, 5000, 30); /* not over 6 s yet */
	add(s, 3, HELD_UNFINISHED, 7000, 6);
	add(s, 4, HELD_SILENT, 3000, 9);
	judge(s, 1000);
	assert_true(s->alarm.on);
	assert_int_equal(cuts_of(s, 1, false), 30 - 6);
	assert_int_equal(cuts_of(s, 1, true), 0);
	assert_int_equal(cuts_of(s, 2, false), 0);
	assert_int_equal(cuts_of(s, 3, false), 0);
	assert_int_equal(offences_of(s, 4, OFFENCE_SILENT), 3);
}

/* One of four workers is full: only its connections help, and those that nobody has accepted. */
static void test_only_the_full_worker(void **state)
{
	struct scene *s = *state;
	const struct verdict_task tasks[] = {{.limit = 100, .fds = 90}, {.limit = 100, .fds = 40}};

	add(s, 1, HELD_SILENT, 9000, 80);
	for (uint32_t i = 0; i < s->n; i++)
		s->held[i].task = i % 2;
	verdict_limits(&s->verdict, &s->rule, tasks, 2, false, &s->alarm, 1000);
	assert_int_equal(s->verdict.fill_permille, 900);
	assert_int_equal(verdict_judge(&s->verdict, &s->rule, tasks, 2, s->held, s->n), 0);
	assert_int_equal(needed(s), 40);
	for (uint32_t i = 0; i < s->verdict.ncuts; i++)
		assert_int_equal(s->held[s->verdict.cuts[i].index].task, 0);
}

static void test_many_offences_are_capped(void **state)
{
	struct scene *s = *state;

	s->rule.maxsilent = 0;
	add(s, 1, HELD_SILENT, 30000, MANY);
	s->task = (struct verdict_task){.limit = 1u << 20, .fds = MANY};
	judge(s, 1000);
	assert_int_equal(s->verdict.noffences, VERDICT_OFFENCES_MAX);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_limit_shrinks),
		T(test_few_silent_are_none),
		T(test_told_once),
		T(test_young_silent_are_due),
		T(test_office_earns_its_spare_connections),
		T(test_unanswered_and_stalled),
		T(test_shrunk_limits_spare_few),
		T(test_maxconns),
		T(test_alarm_holds_until_calm),
		T(test_no_cut_below_descriptors),
		T(test_cuts_from_who_holds_most),
		T(test_cut_of_a_thousand_addresses_accuses_nobody),
		T(test_never_cut),
		T(test_classes_in_order),
		T(test_unknown_cut_is_no_offence),
		T(test_spare_ones_follow),
		T(test_few_wait_for_many),
		T(test_few_silent_wait_for_many_that_rest),
		T(test_many_silent_before_few_that_rest),
		T(test_burst_before_single_old_ones),
		T(test_starved),
		T(test_rest_is_the_last_tier),
		T(test_only_the_full_worker),
		T(test_many_offences_are_capped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
