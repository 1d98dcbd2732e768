/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole configuration: smallest files, defaults, families, overrides, fail2ban trees, and the
 * text of each refusal. Every test has a configuration directory `c` and shipped files `s` of its
 * own.
 */
#include "daemon/config/sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

static char top[64], cdir[80], sdir[80];
static struct conf conf;
static struct conf_errors errs;
static struct arena arena;

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", top, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void make_dir(const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", top, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void put_shipped(void)
{
	put("s/etc/jail.conf",
	    "[DEFAULT]\nenabled = no\nbantime = 1h\nbantime.increment = yes\n"
	    "bantime.overalljails = yes\nbantime.maxtime = 4w\naction = nftables\n\tkill\n"
	    "[web-probe]\nmaxretry = 2\ndistinct = path\n[web-burst]\nmaxretry = 35\nfindtime = "
	    "2s\n"
	    "[werkzeug-a]\nmaxretry = 3\n[werkzeug-method]\nmaxretry = 1\n");
	put("s/filters/web.conf", "[Definition]\nfamily = web-probe web-burst[x=1]\n");
	put("s/filters/web-probe.conf",
	    "[INCLUDES]\nbefore = web-common.conf\n[Definition]\n"
	    "failregex = %(_line)sGET <path> <HOST>\n            two <F-PATH>.</F-PATH> <HOST>\n"
	    "ignoreregex = ^health\npartnerregex = ^partner <HOST>\n[Init]\npath = /x\n");
	put("s/filters/web-common.conf", "[DEFAULT]\n_line = ^line\\s\n");
	put("s/filters/web-burst.conf",
	    "[Definition]\nprefregex = ^<F-CONTENT>.*</F-CONTENT>$\nfailregex = ^b <HOST>\n"
	    "datepattern = {^LN-BEG}\nmaxlines = 3\n");
	put("s/filters/werkzeug.conf", "[Definition]\nfamily = werkzeug-a werkzeug-method\n");
	put("s/filters/werkzeug-a.conf", "[Definition]\nfailregex = ^a <HOST>\n");
	put("s/filters/werkzeug-method.conf", "[Definition]\nfailregex = ^m <HOST>\n");
	put("s/actions/nftables.conf", "[Definition]\nnative = nftables\n");
	put("s/actions/kill.conf", "[Definition]\nnative = kill\n");
	put("s/actions/run.conf",
	    "[Definition]\nactionban = <command>\nactionunban = <unban>\ntimeout = 60\n"
	    "[Init]\ncommand =\nunban =\n");
}

static int begin(void **state)
{
	(void)state;
	snprintf(top, sizeof top, "/tmp/tailban-conf-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(cdir, sizeof cdir, "%s/c", top);
	snprintf(sdir, sizeof sdir, "%s/s", top);
	make_dir("c");
	make_dir("c/jail.d");
	make_dir("c/filter.d");
	make_dir("c/action.d");
	make_dir("s");
	make_dir("s/etc");
	make_dir("s/filters");
	make_dir("s/actions");
	put_shipped();
	return 0;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	conf_free(&conf);
	conf_errors_free(&errs);
	arena_free(&arena);
	snprintf(command, sizeof command, "rm -rf '%s'", top);
	return system(command);
}

/* An error or warning as people see it, without the temporary directory. */
static void compare(const char *wanted, size_t n, const char *file, unsigned line, const char *text)
{
	char got[1100], *at;

	if (file && *file && line)
		snprintf(got, sizeof got, "%s:%u: %s", file, line, text);
	else
		snprintf(got, sizeof got, "%s%s%s", file && *file ? file : "",
			 file && *file ? ": " : "", text);
	while ((at = strstr(got, top)))
		memmove(at, at + strlen(top) + 1, strlen(at) - strlen(top));
	if (strlen(got) != n || memcmp(got, wanted, n) != 0)
		fail_msg("\nwanted '%.*s'\ngot    '%s'", (int)n, wanted, got);
}

static void expect_errors(const char *text)
{
	struct slice rest = slice_str(text), wanted;
	size_t i = 0;

	while (slice_next(&rest, "\n", &wanted)) {
		if (i >= errs.count)
			fail_msg("missing: %.*s", (int)wanted.n, wanted.p);
		compare(wanted.p, wanted.n, errs.items[i].file, errs.items[i].line,
			errs.items[i].text);
		i++;
	}
	if (i < errs.count)
		fail_msg("too much: %s", errs.items[i].text);
	conf_errors_free(&errs);
}

static void expect_warnings(const char *text)
{
	struct slice rest = slice_str(text), wanted;
	size_t i = 0;

	while (*text && slice_next(&rest, "\n", &wanted)) {
		if (i >= conf.nwarnings)
			fail_msg("missing: %.*s", (int)wanted.n, wanted.p);
		compare(wanted.p, wanted.n, conf.warnings[i].file, conf.warnings[i].line,
			conf.warnings[i].text);
		i++;
	}
	if (i < conf.nwarnings)
		fail_msg("too much: %s", conf.warnings[i].text);
}

static void load(void)
{
	conf_free(&conf);
	if (conf_load(cdir, sdir, &conf, &errs))
		fail_msg("%s:%u: %s", errs.count ? errs.items[0].file : "",
			 errs.count ? errs.items[0].line : 0,
			 errs.count ? errs.items[0].text : "?");
	assert_int_equal(errs.count, 0);
}

static void refuse_again(void)
{
	conf_free(&conf);
	assert_int_equal(conf_load(cdir, sdir, &conf, &errs), ERROR_CONFIG);
}

static void refuse(const char *jail_conf, const char *wanted)
{
	put("c/jail.conf", jail_conf);
	refuse_again();
	assert_null(conf.jails);
	expect_errors(wanted);
}

/* One line in an enabled jail; the fault is at line 5. */
static void refuse_line(const char *line, const char *wanted)
{
	char text[512], full[512];

	snprintf(text, sizeof text, "[j]\nenabled = yes\nfilter = web-probe\nlogpath = /l\n%s\n",
		 line);
	snprintf(full, sizeof full, "c/jail.conf:5: %s", wanted);
	refuse(text, full);
}

static void smallest(void **state)
{
	struct jail_conf *j;

	(void)state;
	put("c/jail.d/flask.conf",
	    "[flask]\nenabled = yes\nfilter = web\nlogpath = /home/me/app/logs/logs.out\n");
	load();
	expect_warnings("");
	assert_int_equal(conf.njails, 1);
	j = &conf.jails[0];
	assert_string_equal(j->name, "flask");
	assert_int_equal(j->where.line, 2);
	assert_int_equal(j->nlogpaths, 1);
	assert_string_equal(j->logpaths[0].text, "/home/me/app/logs/logs.out");
	assert_int_equal(j->logpaths[0].line, 4);
	assert_false(j->logpath_tail[0]);
	assert_int_equal(j->bantime_s, 3600);
	assert_true(j->growth.increment && j->growth.overalljails && j->kill && j->ignoreself &&
		    j->port_auto);
	assert_false(j->scope_port);
	assert_int_equal(j->growth.maxtime_s, 2419200);
	assert_int_equal(j->ipv4_prefix, 32);
	assert_int_equal(j->ipv6_prefix, 64);
	assert_int_equal(j->witness, WITNESS_AUTO);
	assert_int_equal(j->nactions, 2);
	assert_int_equal(j->actions[0].kind, ACTION_NFTABLES);
	assert_int_equal(j->actions[1].kind, ACTION_KILL);
	assert_int_equal(j->nrules, 2);
	assert_string_equal(j->rules[0].filter.name, "web-probe");
	assert_int_equal(j->rules[0].maxretry, 2);
	assert_int_equal(j->rules[0].findtime_s, 600);
	assert_string_equal(j->rules[0].distinct, "path");
	assert_int_equal(j->rules[1].maxretry, 35);
	assert_int_equal(j->rules[1].findtime_s, 2);
	assert_null(j->rules[1].distinct);
}

static void filter_file(void **state)
{
	struct filter_conf *f;

	(void)state;
	put("c/jail.conf", "[web]\nenabled = yes\nlogpath = /l\n");
	load();
	f = &conf.jails[0].rules[0].filter;
	assert_int_equal(f->nfail, 2);
	assert_string_equal(f->failregex[0].text, "^line\\sGET /x <HOST>");
	assert_string_equal(f->failregex[1].text, "two <F-PATH>.</F-PATH> <HOST>");
	assert_int_equal(f->failregex[1].line, 5);
	assert_non_null(strstr(f->failregex[1].file, "s/filters/web-probe.conf"));
	assert_string_equal(f->ignoreregex[0].text, "^health");
	assert_string_equal(f->partnerregex[0].text, "^partner <HOST>");
	assert_null(f->prefregex.text);
	assert_int_equal(f->maxlines, 1);
	f = &conf.jails[0].rules[1].filter;
	assert_string_equal(f->prefregex.text, "^<F-CONTENT>.*</F-CONTENT>$");
	assert_string_equal(f->datepattern[0].text, "{^LN-BEG}");
	assert_int_equal(f->maxlines, 3);
}

static void thresholds(void **state)
{
	(void)state;
	put("c/jail.conf",
	    "[DEFAULT]\nmaxretry = 9\nfindtime = 1m\n"
	    "[a]\nenabled = yes\nfilter = web\nlogpath = /l\n"
	    "[b]\nenabled = yes\nfilter = web\nlogpath = /l\nmaxretry = 4\ndistinct =\n"
	    "[c]\nenabled = yes\nfilter = web-burst\nlogpath = /l\n"
	    "[d]\nenabled = yes\nfilter = werkzeug-a\nlogpath = /l\nfindtime = 5s\n"
	    "[e]\nenabled = yes\nfilter = web\nlogpath = /l\ndistinct = path\n");
	put("c/jail.local", "[web-probe]\nmaxretry = 7\n");
	load();
	assert_int_equal(conf.njails, 5);
	assert_string_equal(conf.jails[4].rules[0].distinct, "path");
	assert_null(conf.jails[4].rules[1].distinct); /* it has no such field */
	assert_int_equal(conf.jails[0].rules[0].maxretry, 7);
	assert_int_equal(conf.jails[0].rules[0].findtime_s, 60);
	assert_int_equal(conf.jails[0].rules[1].maxretry, 35);
	assert_int_equal(conf.jails[0].rules[1].findtime_s, 2);
	assert_int_equal(conf.jails[1].rules[0].maxretry, 4);
	assert_null(conf.jails[1].rules[0].distinct);
	assert_int_equal(conf.jails[1].rules[1].maxretry, 4);
	assert_int_equal(conf.jails[1].rules[1].findtime_s, 2);
	assert_int_equal(conf.jails[2].rules[0].maxretry, 35);
	assert_int_equal(conf.jails[3].rules[0].maxretry, 3);
	assert_int_equal(conf.jails[3].rules[0].findtime_s, 5);
}

static void all_keys(void **state)
{
	struct jail_conf *j;
	struct addr a;

	(void)state;
	put("c/jail.conf",
	    "[j]\nenabled = TRUE\nfilter = web-probe[path=\"/a,b\"]\nbackend = polling\n"
	    "logpath = /var/log/*.out tail\n\t%(__name__)s ; no\n\t/b head\n"
	    "bantime = -1\nbantime.factor = 2.5\nbantime.multipliers = 1 2,4\nbantime.maxtime =\n"
	    "bantime.formula = ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor\n"
	    "bantime.rndtime = 1m\nbantime.increment = 0\nmaxretry = 1000\nfindtime = 1h 30m\n"
	    "ignoreip = 10.0.0.0/8, 192.0.2.1 2001:db8::/32 198.51.100.0/255.255.255.0\nignoreself "
	    "= off\n"
	    "trusted_proxy = 203.0.113.7\nport = http,8000:8010 443 9-10\nscope = port\nkill = no\n"
	    "ipv4_prefix = 24\nipv6_prefix = 48\nwitness = no\nmaxmatches = 3\n"
	    "logencoding = utf-8\nnetworks = off\nusedns = warn\naction = nftables[x=1]\n");
	put("c/jail.local", "[j]\nlogpath = /var/log/*.out tail\n\t/b c head\n\t/d\n");
	load();
	j = &conf.jails[0];
	assert_int_equal(j->backend, BACKEND_POLLING);
	assert_int_equal(j->nlogpaths, 3);
	assert_string_equal(j->logpaths[0].text, "/var/log/*.out");
	assert_string_equal(j->logpaths[1].text, "/b c");
	assert_true(j->logpath_tail[0] && !j->logpath_tail[1] && !j->logpath_tail[2]);
	assert_int_equal(j->bantime_s, CONF_FOREVER);
	assert_true(j->growth.factor > 2.49 && j->growth.factor < 2.51);
	assert_int_equal(j->growth.nmultipliers, 3);
	assert_true(j->growth.multipliers[2] > 3.99 && j->growth.multipliers[2] < 4.01);
	assert_null(j->growth.formula);
	assert_int_equal(j->growth.maxtime_s, 0);
	assert_int_equal(j->growth.rndtime_s, 60);
	assert_false(j->growth.increment || j->ignoreself || j->kill || j->port_auto);
	assert_int_equal(j->rules[0].maxretry, 1000);
	assert_int_equal(j->rules[0].findtime_s, 5400);
	assert_string_equal(j->rules[0].filter.failregex[0].text, "^line\\sGET /a,b <HOST>");
	assert_int_equal(addr_parse(SLICE("10.1.2.3"), &a), 0);
	assert_non_null(netlist_find(&j->ignoreip, &a));
	assert_int_equal(addr_parse(SLICE("198.51.100.9"), &a), 0);
	assert_non_null(netlist_find(&j->ignoreip, &a));
	assert_int_equal(j->trusted_proxy.count, 1);
	assert_int_equal(j->nports, 4);
	assert_int_equal(j->ports[0].first, 80);
	assert_int_equal(j->ports[1].first, 8000);
	assert_int_equal(j->ports[1].last, 8010);
	assert_int_equal(j->ports[3].last, 10);
	assert_true(j->scope_port);
	assert_int_equal(j->ipv4_prefix, 24);
	assert_int_equal(j->ipv6_prefix, 48);
	assert_int_equal(j->witness, WITNESS_NO);
	assert_int_equal(j->maxmatches, 3);
	assert_int_equal(j->nactions, 1);
	assert_string_equal(j->actions[0].params[0].value, "1");
}

/* Sixteen ports are one ban's elements; more are refused, in a fail2ban tree they mean all ports.
 */
static void scope_ports(void **state)
{
	(void)state;
	put("c/jail.conf", "[x]\nenabled = yes\nfilter = web-probe\nlogpath = /x\n"
			   "scope = port\nport = 8000:8015\n");
	load();
	assert_true(conf.jails[0].scope_port);
	refuse("[x]\nenabled = yes\nfilter = web-probe\nlogpath = /x\nscope = port\nport = "
	       "8000:8016\n",
	       "c/jail.conf:2: [x] names 17 ports, scope = port takes at most 16: 'scope = port'");
	put("c/fail2ban.conf", "[Definition]\n");
	load();
	assert_false(conf.jails[0].scope_port);
}

static void value_errors(void **state)
{
	static const char *const cases[][2] = {
		{"maxretry = 0", "maxretry must be a number from 1 to 1000: 'maxretry = 0'"},
		{"maxretry = many", "maxretry must be a number from 1 to 1000: 'maxretry = many'"},
		{"maxretry = 1001", "maxretry must be a number from 1 to 1000: 'maxretry = 1001'"},
		{"maxretry =", "maxretry must be a number from 1 to 1000: 'maxretry = '"},
		{"findtime = 0", "findtime must be a time from 1s to 10y: 'findtime = 0'"},
		{"findtime = -1h", "findtime must be a time from 1s to 10y: 'findtime = -1h'"},
		{"findtime = soon",
		 "findtime must be a time such as '90', '10m' or '1h 30m': 'findtime = soon'"},
		{"bantime = -2", "bantime must be a time such as '10m' or '1h 30m', or -1 for "
				 "ever: 'bantime = -2'"},
		{"bantime = 0",
		 "bantime must be a time such as '10m' or '1h 30m', or -1 for ever: 'bantime = 0'"},
		{"kill = maybe", "kill must be yes or no: 'kill = maybe'"},
		{"ipv4_prefix = 7", "ipv4_prefix must be a number from 8 to 32: 'ipv4_prefix = 7'"},
		{"ipv4_prefix = 33",
		 "ipv4_prefix must be a number from 8 to 32: 'ipv4_prefix = 33'"},
		{"ipv6_prefix = 15",
		 "ipv6_prefix must be a number from 16 to 128: 'ipv6_prefix = 15'"},
		{"ipv6_prefix = /64",
		 "ipv6_prefix must be a number from 16 to 128: 'ipv6_prefix = /64'"},
		{"witness = perhaps", "witness must be yes, no or auto: 'witness = perhaps'"},
		{"scope = some", "scope must be all or port: 'scope = some'"},
		{"port = 70000", "port must be ports, ranges (8000:8010) or names of "
				 "/etc/services, or auto: 'port = 70000'"},
		{"port = 9:8", "port must be ports, ranges (8000:8010) or names of /etc/services, "
			       "or auto: 'port = 9:8'"},
		{"port = nosuch", "port must be ports, ranges (8000:8010) or names of "
				  "/etc/services, or auto: 'port = nosuch'"},
		{"distinct = a b", "distinct must be the name of a field, such as 'path' for "
				   "<F-PATH>: 'distinct = a b'"},
		{"distinct = user", "distinct: the filter 'web-probe' has no such field: 'user'"},
		{"bantime.factor = -1", "bantime.factor must be a number above 0, such as '1' or "
					"'2.5': 'bantime.factor = -1'"},
		{"bantime.multipliers = 1 x", "bantime.multipliers must be numbers above 0, such "
					      "as '1 2 4 8 16': 'bantime.multipliers = 1 x'"},
		{"bantime.formula = ban.Time * 2",
		 "bantime.formula is Python: only fail2ban's default formula is known here, use "
		 "bantime.multipliers or "
		 "bantime.factor: 'bantime.formula = ban.Time * 2'"},
		{"ignoreip = 1.2.3.4 office.example.org",
		 "ignoreip: names need the resolver, which this version does not have: "
		 "'office.example.org'"},
		{"ignoreip = 10.0.0.0/33",
		 "ignoreip has something that is no address or network: '10.0.0.0/33'"},
		{"ignoreip = file:/x", "ignoreip from a file is not in this version: 'file:/x'"},
		{"trusted_proxy = 1.2.3",
		 "trusted_proxy has something that is no address or network: '1.2.3'"},
		{"backend = systemd", "backend of the journal is not in this version: use a log "
				      "file: 'backend = systemd'"},
		{"backend = magic",
		 "backend must be auto, polling, stdin or sockets: 'backend = magic'"},
		{"networks = 5 in 24", "networks needs bans of networks, which this version does "
				       "not have: 'networks = 5 in 24'"},
		{"silent = 20s", "silent is for jails with backend = sockets: 'silent = 20s'"},
		{"maxconns = off",
		 "maxconns is for jails with backend = sockets: 'maxconns = off'"},
		{"descriptors = 80%",
		 "descriptors is for jails with backend = sockets: 'descriptors = 80%'"},
		{"on_exhaustion =", "on_exhaustion is for jails with backend = sockets: "
				    "'on_exhaustion = '"},
		{"journalmatch = A=b", "journalmatch needs the journal, which this version does "
				       "not have: 'journalmatch = A=b'"},
		{"logtimezone = UTC+0200", "logtimezone needs dates of another zone, which this "
					   "version does not have: 'logtimezone = UTC+0200'"},
		{"ignorecommand = /bin/true", "ignorecommand needs ignore commands, which this "
					      "version does not have: 'ignorecommand = /bin/true'"},
		{"maxmatches = %(gone)s", "the name in %(name)s is not defined: '%(gone)s'"},
		{"bantme = 1h",
		 "unknown key 'bantme' in [j], did you mean 'bantime'?: 'bantme = 1h'"},
		{"colour = red", "unknown key 'colour' in [j]: 'colour = red'"},
		{"logpath = logs/x.out", "logpath must be an absolute path: 'logs/x.out'"},
		{"filter = web-prob", "there is no filter 'web-prob', did you mean 'web-probe'? "
				      "(looked in c/filter.d and s)"},
		{"filter = a b", "a jail has one filter (several make a family): 'filter = a b'"},
		{"filter = web-probe[x=1", "the arguments have no ]: 'x=1'"},
		{"action = nftable", "there is no action 'nftable', did you mean 'nftables'?"},
		{"action = run", "action 'run' has nothing to do: s/actions/run.conf has neither "
				 "'native' nor a command"},
		{"failregex = %(known/failregx)s",
		 "the name in %(name)s is not defined: '%(known/failregx)s'"},
		{"maxlines = 0", "maxlines must be a number from 1 to 1000: 'maxlines = 0'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		refuse_line(cases[i][0], cases[i][1]);
}

/* One line in a sockets jail; the fault is at line 5. */
static void refuse_sockets_line(const char *line, const char *wanted)
{
	char text[512], full[512];

	snprintf(text, sizeof text, "[s]\nenabled = yes\nbackend = sockets\nport = 80\n%s\n", line);
	snprintf(full, sizeof full, "c/jail.conf:5: %s", wanted);
	refuse(text, full);
}

static void sockets_errors(void **state)
{
	static const char *const cases[][2] = {
		{"silent = 0", "silent must be a time from 1s to 1d: 'silent = 0'"},
		{"silent = 25h", "silent must be a time from 1s to 1d: 'silent = 25h'"},
		{"unanswered = off", "unanswered must be a time such as '90', '10m' or '1h 30m': "
				     "'unanswered = off'"},
		{"stalled = -1", "stalled must be a time from 1s to 1d: 'stalled = -1'"},
		{"idle =", "idle must be a time such as '90', '10m' or '1h 30m': 'idle = '"},
		{"maxsilent = -1",
		 "maxsilent must be a number from 0 to 1000000: 'maxsilent = -1'"},
		{"maxsilent = off",
		 "maxsilent must be a number from 0 to 1000000: 'maxsilent = off'"},
		{"maxconns = 0", "maxconns must be off or a number from 1 to 1000000: "
				 "'maxconns = 0'"},
		{"maxconns = many", "maxconns must be off or a number from 1 to 1000000: "
				    "'maxconns = many'"},
		{"descriptors = 80", "descriptors must be off or a part of the service's limit, "
				     "from 1% to 100%: 'descriptors = 80'"},
		{"descriptors = 0%", "descriptors must be off or a part of the service's limit, "
				     "from 1% to 100%: 'descriptors = 0%'"},
		{"descriptors = 101%", "descriptors must be off or a part of the service's limit, "
				       "from 1% to 100%: 'descriptors = 101%'"},
		{"descriptors = %%", "descriptors must be off or a part of the service's limit, "
				     "from 1% to 100%: 'descriptors = %'"},
		{"raise_nofile = yes", "raise_nofile must be no, hard or a number from 64 to "
				       "2147483584: 'raise_nofile = yes'"},
		{"raise_nofile = 63", "raise_nofile must be no, hard or a number from 64 to "
				      "2147483584: 'raise_nofile = 63'"},
		{"on_exhaustion = kill",
		 "on_exhaustion must be a command, such as run[command=\"systemctl restart "
		 "flask\"]: 'on_exhaustion = kill'"},
		{"on_exhaustion = run[unban=x]",
		 "on_exhaustion must be a command, such as run[command=\"systemctl restart "
		 "flask\"]: 'on_exhaustion = run[unban=x]'"},
		{"on_exhaustion = run[command=a] run[command=b]",
		 "on_exhaustion must be one action: 'on_exhaustion = run[command=a] "
		 "run[command=b]'"},
		{"on_exhaustion = rnu", "there is no action 'rnu', did you mean 'run'?"},
		{"on_exhaustion = run", "action 'run' has nothing to do: s/actions/run.conf has "
					"neither 'native' nor a command"},
		{"on_exhaustion = run[command=x", "the arguments have no ]: 'command=x'"},
		{"on_exhaustion = run[command=\"echo <ip>\"]",
		 "<ip> would put what an attacker chose into the command, use \"$TAILBAN_ADDR\": "
		 "'echo <ip>'"},
		{"filter = web",
		 "filter has no meaning in a jail with backend = sockets: 'filter = web'"},
		{"distinct = path",
		 "distinct has no meaning in a jail with backend = sockets: 'distinct = path'"},
		{"failregex = ^x <HOST>", "failregex has no meaning in a jail with backend = "
					  "sockets: 'failregex = ^x <HOST>'"},
		{"ignoreregex = ^x", "ignoreregex has no meaning in a jail with backend = sockets: "
				     "'ignoreregex = ^x'"},
		{"datepattern = x", "datepattern has no meaning in a jail with backend = sockets: "
				    "'datepattern = x'"},
		{"prefregex = x", "prefregex has no meaning in a jail with backend = sockets: "
				  "'prefregex = x'"},
		{"maxlines = 2",
		 "maxlines has no meaning in a jail with backend = sockets: 'maxlines = 2'"},
		{"logpath = x", "logpath must be an absolute path: 'x'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		refuse_sockets_line(cases[i][0], cases[i][1]);
	refuse("[DEFAULT]\nsilent = soon\n[s]\nenabled = yes\nbackend = sockets\nport = 80\n",
	       "c/jail.conf:2: silent must be a time such as '90', '10m' or '1h 30m': "
	       "'silent = soon'");
	refuse("[s]\nenabled = yes\nbackend = sockets\nport = 1-16,80\n",
	       "c/jail.conf:2: [s] names 17 ports, backend = sockets takes at most 16: 'backend = "
	       "sockets'");
	refuse("[s]\nenabled = yes\nbackend = sockets\n[t]\nenabled = yes\nbackend = sockets\n",
	       "c/jail.conf:5: jail [t] is enabled and has no port, no logpath, and no other jail "
	       "beside it whose ports it could take");
}

static void put_sockets(void)
{
	put("s/etc/jail.conf",
	    "[DEFAULT]\nenabled = no\nfilter = %(__name__)s\nsilent = 20s\ndescriptors = 80%\n"
	    "on_exhaustion =\n[sockets]\nbackend = sockets\nmaxretry = 3\n");
}

static void sockets_defaults(void **state)
{
	const struct sockets_conf *s;
	struct jail_conf *j;

	(void)state;
	put_sockets();
	put("c/jail.d/s.conf", "[sockets]\nenabled = yes\nport = 8001\n");
	load();
	expect_warnings("");
	assert_int_equal(conf.njails, 1);
	j = &conf.jails[0];
	s = &j->sockets;
	assert_int_equal(j->backend, BACKEND_SOCKETS);
	assert_int_equal(j->nlogpaths, 0);
	assert_false(j->port_auto || conf_borrows_ports(j));
	assert_int_equal(conf_count_ports(j), 1);
	assert_int_equal(j->nrules, 1);
	assert_string_equal(j->rules[0].filter.name, "sockets");
	assert_int_equal(j->rules[0].filter.nfail, 0);
	assert_int_equal(j->rules[0].maxretry, 3);
	assert_int_equal(j->rules[0].findtime_s, 600);
	assert_int_equal(s->silent_s, 20);
	assert_int_equal(s->unanswered_s, 60);
	assert_int_equal(s->stalled_s, 30);
	assert_int_equal(s->idle_s, 60);
	assert_int_equal(s->maxsilent, 6);
	assert_int_equal(s->maxconns, 0);
	assert_int_equal(s->descriptors, 80);
	assert_true(s->raise_nofile == 0);
	assert_int_equal(s->exhaustion_action, 0);
	assert_int_equal(j->nactions, 2);
	assert_true(j->kill);
}

/* [DEFAULT] speaks for all sockets jails and hurts no log jail; so do thresholds of [sockets]. */
static void sockets_keys(void **state)
{
	const struct sockets_conf *s;
	const struct action_conf *a;
	struct jail_conf *j;
	uint8_t first[16];

	(void)state;
	put_sockets();
	put("c/jail.conf",
	    "[DEFAULT]\nsilent = 4s\nmaxretry = 9\ndistinct = path\nfilter = web-probe\n"
	    "on_exhaustion = run[command=\"restart it\", timeout=2m]\n"
	    "[log]\nenabled = yes\nlogpath = /l\n"
	    "[s]\nenabled = yes\nbackend = sockets\nport = 8001\nfilter =\nunanswered = 6s\n"
	    "stalled = 1\nidle = 1d\nmaxsilent = 0\nmaxconns = 50\ndescriptors = 75%\n"
	    "raise_nofile = hard\naction = nftables\n  run[command=\"restart it\", "
	    "timeout=2m]\n"
	    "[t]\nenabled = yes\nbackend = sockets\nport = 8002\nmaxretry = 2\n"
	    "descriptors = off\nraise_nofile = 4096\non_exhaustion = no\n");
	load();
	expect_warnings("");
	assert_int_equal(conf.njails, 3);
	assert_int_equal(conf.jails[0].nactions, 2);
	j = &conf.jails[1];
	s = &j->sockets;
	assert_int_equal(s->silent_s, 4);
	assert_int_equal(s->unanswered_s, 6);
	assert_int_equal(s->stalled_s, 1);
	assert_int_equal(s->idle_s, 86400);
	assert_int_equal(s->maxsilent, 0);
	assert_int_equal(s->maxconns, 50);
	assert_int_equal(s->descriptors, 75);
	assert_true(s->raise_nofile == UINT64_MAX);
	assert_int_equal(j->rules[0].maxretry, 3);
	assert_null(j->rules[0].distinct);
	assert_int_equal(j->nactions, 3);
	assert_false(j->actions[1].only_exhaustion);
	assert_int_equal(s->exhaustion_action, 3);
	a = &j->actions[2];
	assert_true(a->only_exhaustion);
	assert_string_equal(a->ban.text, "restart it");
	assert_int_equal(a->timeout_s, 120);
	assert_int_equal(a->where.line, 6);
	j = &conf.jails[2];
	assert_int_equal(j->rules[0].maxretry, 2);
	assert_int_equal(j->sockets.descriptors, 0);
	assert_true(j->sockets.raise_nofile == 4096);
	assert_int_equal(j->sockets.exhaustion_action, 0);
	memcpy(first, conf.digest, sizeof first);
	put("c/jail.local", "[t]\nidle = 59s\n");
	load();
	assert_memory_not_equal(first, conf.digest, sizeof first);
}

/* It is off by itself, and of a fail2ban tree only the thresholds are ours. */
static void sockets_fail2ban(void **state)
{
	(void)state;
	put_sockets();
	put("c/fail2ban.conf", "[Definition]\n");
	put("c/jail.conf", "[DEFAULT]\nport = 0:65535\n[web-probe]\nenabled = yes\nlogpath = /l\n");
	load();
	assert_int_equal(conf.njails, 1);
	put("c/jail.local", "[s]\nenabled = yes\nbackend = sockets\nport = http\n"
			    "on_exhaustion = gone\n");
	refuse_again();
	expect_errors("c/jail.local:5: there is no action 'gone'");
	put("c/jail.local", "[s]\nenabled = yes\nbackend = sockets\nport = http\n");
	load();
	assert_int_equal(conf.njails, 2);
	assert_int_equal(conf.jails[1].rules[0].maxretry, 3);
	assert_int_equal(conf.jails[1].sockets.silent_s, 20);
}

static const struct source_conf *source_of(const struct source_conf *list, size_t n, uint16_t jail)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < list[i].njails; k++)
			if (list[i].jails[k] == jail)
				return &list[i];
	return NULL;
}

static void sockets_sources(void **state)
{
	const struct source_conf *s;
	struct source_conf *list;
	size_t n = 0;

	(void)state;
	put("c/jail.conf",
	    "[no]\nenabled = yes\nbackend = sockets\n"
	    "[own]\nenabled = yes\nbackend = sockets\nlogpath = /own\n"
	    "[with]\nenabled = yes\nbackend = sockets\nlogpath = /l tail\n"
	    "[a]\nenabled = yes\nfilter = web-probe\nbackend = polling\nlogpath = /l\n"
	    "[b]\nenabled = yes\nfilter = web-burst\nbackend = polling\nlogpath = /l\n");
	load();
	list = sources_list(&conf, &arena, &n);
	assert_int_equal(n, 2);
	assert_null(source_of(list, n, 0));
	assert_true(conf_borrows_ports(&conf.jails[0]));
	assert_false(conf_borrows_ports(&conf.jails[1]));
	s = source_of(list, n, 1);
	assert_string_equal(s->name, "/own");
	assert_int_equal(s->backend, BACKEND_AUTO);
	assert_true(s->tail);
	assert_int_equal(s->njails, 1);
	assert_int_equal(s->nreaders, 0);
	s = source_of(list, n, 2);
	assert_ptr_equal(s, source_of(list, n, 3));
	assert_int_equal(s->backend, BACKEND_POLLING);
	assert_false(s->tail);
	assert_int_equal(s->njails, 3);
	assert_int_equal(s->nreaders, 2);
	assert_int_equal(s->jails[0], 3);
	assert_int_equal(s->jails[2], 2);
	put("c/jail.conf", "[s]\nenabled = yes\nbackend = sockets\nport = 80\n");
	load();
	sources_list(&conf, &arena, &n);
	assert_int_equal(n, 0);
}

static void all_errors_at_once(void **state)
{
	(void)state;
	put("c/tailban.conf", "[Definition]\nloglevl = info\nmaxbans = 3\n");
	refuse("[DEFAULT]\nbantime = x\n[a]\nenabled = yes\nfilter = web\nmaxretri = 1\n"
	       "[b]\nenabled = yes\nfilter = none\nlogpath = /l\n[c]\nenabled = si\n",
	       "c/tailban.conf:2: unknown key 'loglevl' in [Definition], did you mean 'loglevel'?: "
	       "'loglevl = info'\n"
	       "c/tailban.conf:3: maxbans must be a number from 16 to 16000000: 'maxbans = 3'\n"
	       "c/jail.conf:6: unknown key 'maxretri' in [a], did you mean 'maxretry'?: 'maxretri "
	       "= 1'\n"
	       "c/jail.conf:2: bantime must be a time such as '10m' or '1h 30m', or -1 for ever: "
	       "'bantime = x'\n"
	       "c/jail.conf:9: there is no filter 'none' (looked in c/filter.d and s)\n"
	       "c/jail.conf:12: enabled must be yes or no: 'enabled = si'");
	refuse("[a]\nenabled = yes\nfilter = web\n[b c]\nenabled = yes\nfilter = web\nlogpath = "
	       "/l\n",
	       "c/tailban.conf:2: unknown key 'loglevl' in [Definition], did you mean 'loglevel'?: "
	       "'loglevl = info'\n"
	       "c/tailban.conf:3: maxbans must be a number from 16 to 16000000: 'maxbans = 3'\n"
	       "c/jail.conf:2: jail [a] is enabled and has no logpath\n"
	       "c/jail.conf:4: a jail's name is up to 63 letters, digits, '_', '.' or '-': '[b "
	       "c]'");
	refuse("[a]\nenabled = yes\nword\n",
	       "c/jail.conf:3: neither '[section]' nor 'name = value': 'word'");
}

static void helpers_are_no_errors(void **state)
{
	(void)state;
	put("c/jail.conf",
	    "[DEFAULT]\n__base = /srv\nbanaction = x\nmode = normal\nmine = m\ntheirs = t\n"
	    "[h]\nroot = /r\n[j]\nenabled = yes\nfilter = web\nlogpath = "
	    "%(__base)s/%(mine)s%(h/root)s\n");
	refuse_again();
	expect_errors("c/jail.conf:6: unknown key 'theirs' in [DEFAULT]: 'theirs = t'");
}

static void jail_overrides_filter(void **state)
{
	struct filter_conf *f;

	(void)state;
	put("c/jail.conf",
	    "[web-probe]\nenabled = yes\nlogpath = /l\nfailregex = %(known/failregex)s\n  three "
	    "<HOST>\n"
	    "ignoreregex =\nmaxlines = 2\n"
	    "[own]\nenabled = yes\nlogpath = /l\nfilter =\nfailregex = ^mine <HOST>\n"
	    "[bad]\nenabled = no\n");
	load();
	f = &conf.jails[0].rules[0].filter;
	assert_int_equal(f->nfail, 3);
	assert_string_equal(f->failregex[0].text, "^line\\sGET /x <HOST>");
	assert_string_equal(f->failregex[2].text, "three <HOST>");
	assert_int_equal(f->failregex[2].line, 5);
	assert_int_equal(f->nignore, 0);
	assert_int_equal(f->maxlines, 2);
	assert_string_equal(conf.jails[1].rules[0].filter.failregex[0].text, "^mine <HOST>");
	refuse("[j]\nenabled = yes\nfilter = web\nlogpath = /l\nfailregex = x <HOST>\n",
	       "c/jail.conf:5: failregex cannot be set in a jail whose filter is a family: 'j'");
	refuse("[j]\nenabled = yes\nfilter =\nlogpath = /l\n",
	       "c/jail.conf:3: filter '' has no failregex");
}

static void own_filters(void **state)
{
	struct filter_conf *f;

	(void)state;
	put("c/filter.d/web-probe.local",
	    "[Definition]\nfailregex = %(known/failregex)s\n  local <HOST>\n[Init]\npath = /loc\n");
	put("c/filter.d/mine.conf",
	    "[INCLUDES]\nbefore = web-common.conf\n[Definition]\nfailregex = %(_line)s<re-<mode>>\n"
	    "re-a = A <HOST>\nre-b = B <HOST>\n  B2 <HOST> <sec/x>\n[Init]\nmode = a\n[sec]\nx = "
	    "y%(z)s\nz = Z\n");
	put("c/jail.conf",
	    "[web-probe]\nenabled = yes\nlogpath = /l\n[mine]\nenabled = yes\nlogpath = /l\n"
	    "[m2]\nenabled = yes\nfilter = mine[mode=b]\nlogpath = /l\n");
	load();
	f = &conf.jails[0].rules[0].filter;
	assert_int_equal(f->nfail, 3);
	assert_string_equal(f->failregex[0].text, "^line\\sGET /loc <HOST>");
	assert_string_equal(f->failregex[2].text, "local <HOST>");
	f = &conf.jails[1].rules[0].filter;
	assert_string_equal(f->failregex[0].text, "^line\\sA <HOST>");
	f = &conf.jails[2].rules[0].filter;
	assert_int_equal(f->nfail, 2);
	assert_string_equal(f->failregex[0].text, "^line\\sB <HOST>");
	assert_string_equal(f->failregex[1].text, "B2 <HOST> yZ");
}

static void bad_filters(void **state)
{
	static const char jail[] = "[mine]\nenabled = yes\nlogpath = /l\n";

	(void)state;
	put("c/filter.d/mine.conf", "[Definition]\nfailregx = ^x <HOST>\n");
	refuse(jail, "c/filter.d/mine.conf:2: unknown key 'failregx' in a filter, did you mean "
		     "'failregex'?: "
		     "'failregx = ^x <HOST>'");
	put("c/filter.d/mine.conf",
	    "[Definition]\nfailregx = ^x <HOST>\nfailregex = %(failregx)s\n");
	put("c/jail.conf", jail);
	load();
	put("c/filter.d/mine.conf", "[Definition]\nhelper = 1\n");
	refuse(jail, "c/filter.d/mine.conf: filter 'mine' has no failregex");
	put("c/filter.d/mine.conf",
	    "[Definition]\nfailregex = <a> <HOST>\n[Init]\na = <b>\nb = <a>\n");
	refuse(jail, "c/filter.d/mine.conf:2: <parameters> without end, does one refer to itself?: "
		     "'<a> <HOST>'");
	put("c/filter.d/mine.conf", "[Definition]\nfailregex = a <HOST>\n  50% <HOST>\n");
	refuse(jail, "c/filter.d/mine.conf:3: a percent sign is written %%, or begins a %(name)s: "
		     "'% <HOST>'");
	put("c/filter.d/mine.conf", "[Definition]\nfailregex = a <HOST>\nprefregex = a\n b\n");
	refuse(jail,
	       "c/filter.d/mine.conf:4: prefregex is one expression, this is a second one: 'b'");
	put("c/filter.d/mine.conf", "[Definition]\nfailregex = a <HOST>\nmaxlines = lots\n");
	refuse(jail, "c/filter.d/mine.conf:3: maxlines must be a number from 1 to 1000: 'maxlines "
		     "= lots'");
	put("c/filter.d/mine.conf", "[Definition]\nfamily = web-probe gone\n");
	refuse(jail,
	       "c/filter.d/mine.conf:2: there is no filter 'gone' (looked in c/filter.d and s)");
	put("c/filter.d/mine.conf", "[Definition]\nfamily = web\n");
	refuse(jail, "c/filter.d/mine.conf:2: a family cannot have a family as its member: 'web'");
	put("c/filter.d/mine.conf",
	    "[INCLUDES]\nbefore = gone.conf\n[Definition]\nfailregex = a <HOST>\n");
	refuse(jail, "c/filter.d/mine.conf:2: no such file to include: 'gone.conf'");
}

static void command_actions(void **state)
{
	struct action_conf *a;

	(void)state;
	put("c/jail.conf",
	    "[web-probe]\nenabled = yes\nlogpath = /l\n"
	    "action = nftables\n  run[command=\"logger banned <what>\", what=it, timeout=5m]\n");
	load();
	assert_int_equal(conf.jails[0].nactions, 2);
	assert_false(conf.jails[0].kill);
	a = &conf.jails[0].actions[1];
	assert_int_equal(a->kind, ACTION_COMMAND);
	assert_string_equal(a->ban.text, "logger banned it");
	assert_null(a->unban.text);
	assert_int_equal(a->timeout_s, 300);
	assert_string_equal(a->params[1].name, "what");
	refuse_line("action = run[command=\"echo <ip>\"]",
		    "<ip> would put what an attacker chose into the command, use "
		    "\"$TAILBAN_ADDR\": 'echo <ip>'");
	refuse_line("action = run[command=\"echo <F-USER>\"]",
		    "<F-USER> is no value that a command gets in this version: 'echo <F-USER>'");
	refuse_line("action = run[command=\"echo <ip-host>\"]",
		    "<ip-host> is no value that a command gets in this version: 'echo <ip-host>'");
	refuse_line("action = run[command=x, timeout=0]",
		    "timeout must be a time from 1s to 1h: 'timeout = 0'");
	put("c/action.d/own.conf", "[Definition]\nnative = iptables\n");
	put("c/jail.conf", "[web-probe]\nenabled = yes\nlogpath = /l\naction = own\n");
	refuse_again();
	expect_errors(
		"c/action.d/own.conf:2: native must be nftables or kill: 'native = iptables'");
	put("c/action.d/own.conf",
	    "[Definition]\nactionban = mail <name> < /dev/null\nnorestored = 1\n");
	refuse_again();
	expect_errors("c/action.d/own.conf:2: <name> would put what an attacker chose into the "
		      "command, use "
		      "\"$TAILBAN_JAIL\": 'mail <name> < /dev/null'");
	put("c/action.d/own.conf",
	    "[Definition]\nactionban = cat </dev/null >/tmp/x\nnorestored = 1\n");
	load();
	assert_string_equal(conf.jails[0].actions[0].ban.text, "cat </dev/null >/tmp/x");
	assert_true(conf.jails[0].actions[0].norestored);
}

static void daemon_keys(void **state)
{
	(void)state;
	put("c/tailban.conf", "[Definition]\n");
	load();
	expect_warnings("no jail is enabled");
	assert_string_equal(conf.logtarget, "SYSLOG");
	assert_string_equal(conf.socket, "/run/tailban/control");
	assert_string_equal(conf.statedir, "/var/lib/tailban");
	assert_string_equal(conf.user, "_tailban");
	assert_null(conf.pidfile);
	assert_int_equal(conf.loglevel, LOG_LEVEL_NOTICE);
	assert_int_equal(conf.maxbans, 1000000);
	assert_int_equal(conf.maxtracked, 100000);
	assert_int_equal(conf.maxmemory_bytes, 64 << 20);
	assert_int_equal(conf.dbpurgeage_s, 86400);
	assert_true(conf.allowipv6);
	put("c/tailban.conf",
	    "[Definition]\nloglevel = INFO\nlogtarget = SYSTEMD-JOURNAL[format=x]\nsocket = /s\n"
	    "pidfile = /p\nmaxbans = 2M\nmaxtracked = 500k\nmaxmemory = 1 G\nallowipv6 = no\n"
	    "dbfile = /x\ndbpurgeage = 2d\nuser = nobody\n");
	put("c/tailban.local", "[DEFAULT]\ndbmaxmatches = 3\n");
	load();
	expect_warnings(
		"c/tailban.conf:10: dbfile is not used, history is kept in memory: 'dbfile = /x'\n"
		"no jail is enabled");
	assert_int_equal(conf.loglevel, LOG_LEVEL_INFO);
	assert_string_equal(conf.logtarget, "SYSLOG");
	assert_string_equal(conf.pidfile, "/p");
	assert_int_equal(conf.maxbans, 2000000);
	assert_int_equal(conf.maxtracked, 500000);
	assert_int_equal(conf.maxmemory_bytes, 1 << 30);
	assert_false(conf.allowipv6);
	assert_int_equal(conf.dbmaxmatches, 3);
	put("c/tailban.conf",
	    "[Definition]\nlists = /x\nmetrics_file = no\nsocket = here\nloglevel = loud\n"
	    "logtarget = file\nuser = a b\nmaxmemory = 1T\nallowipv6 = v4\n[Daemon]\nsocket = "
	    "/s\n");
	refuse_again();
	expect_errors("c/tailban.conf:10: unknown section, the daemon's keys belong to "
		      "[Definition]: '[Daemon]'\n"
		      "c/tailban.conf:5: loglevel must be error, warning, notice, info or debug: "
		      "'loglevel = loud'\n"
		      "c/tailban.conf:6: logtarget must be an absolute path, SYSLOG, journal, "
		      "STDERR or STDOUT: "
		      "'logtarget = file'\n"
		      "c/tailban.conf:4: socket must be an absolute path: 'socket = here'\n"
		      "c/tailban.conf:7: user must be one word: 'user = a b'\n"
		      "c/tailban.conf:8: maxmemory must be a number from 1048576 to 1099511627776: "
		      "'maxmemory = 1T'\n"
		      "c/tailban.conf:9: allowipv6 must be yes, no or auto: 'allowipv6 = v4'\n"
		      "c/tailban.conf:2: lists needs ban lists, which this version does not have: "
		      "'lists = /x'");
}

static void fail2ban_tree(void **state)
{
	struct jail_conf *j;

	(void)state;
	put("c/fail2ban.conf",
	    "[DEFAULT]\nloglevel = DEBUG\nsocket = /var/run/fail2ban/fail2ban.sock\n"
	    "dbfile = None\nnew_key = 1\n[Thread]\nstacksize = 32\n");
	put("c/filter.d/sshd.conf",
	    "[Definition]\nfailregex = ^bad<mode> <HOST>\njournalmatch = x\n");
	put("c/action.d/mail.conf", "[Definition]\nactionban = mail <ip>\n");
	put("c/jail.conf", "[DEFAULT]\nbantime = 10m\nmaxretry = 5\nfindtime = 10m\nbackend = "
			   "auto\nmode = normal\nenabled = false\n"
			   "filter = %(__name__)s[mode=%(mode)s]\nbanaction = "
			   "iptables-multiport\nnovelty = 1\nport = 0:65535\n"
			   "action_ = %(banaction)s[port=\"%(port)s\", "
			   "v=%(fail2ban_version)s]\naction = %(action_)s\n"
			   "[sshd]\nenabled = true\nport = ssh\nlogpath = /var/log/auth.log\n"
			   "[web]\nenabled = true\nlogpath = /l\naction = "
			   "nftables[type=allports]\n  mail\n  sendmail[x=1]\n"
			   "[fast]\nenabled = true\nfilter = web-burst\nlogpath = /l\nkill = no\n");
	load();
	assert_true(conf.is_fail2ban);
	expect_warnings(
		"c/fail2ban.conf:5: unknown key 'new_key' in [DEFAULT]: 'new_key = 1'\n"
		"c/fail2ban.conf:7: stacksize is not used, there is one thread a process: "
		"'stacksize = 32'\n"
		"c/fail2ban.conf:3: socket is fail2ban's, tailban has its own in tailban.conf\n"
		"c/jail.conf:10: unknown key 'novelty' in [DEFAULT]: 'novelty = 1'\n"
		"c/jail.conf:21: action 'mail' of [web] is left out: c/action.d/mail.conf:2: <ip> "
		"would put what an "
		"attacker chose into the command, use \"$TAILBAN_ADDR\": 'mail <ip>'\n"
		"c/jail.conf:21: action 'sendmail' of [web] is left out: c/jail.conf:21: there is "
		"no action 'sendmail'");
	assert_string_equal(conf.socket, "/run/tailban/control");
	assert_int_equal(conf.loglevel, LOG_LEVEL_DEBUG);
	assert_int_equal(conf.njails, 3);
	j = &conf.jails[0];
	assert_false(j->growth.increment);
	assert_int_equal(j->bantime_s, 600);
	assert_string_equal(j->rules[0].filter.failregex[0].text, "^badnormal <HOST>");
	assert_true(j->scope_port && j->kill);
	assert_int_equal(j->ports[0].first, 22);
	assert_int_equal(j->actions[0].kind, ACTION_NFTABLES);
	assert_int_equal(j->actions[1].kind, ACTION_KILL);
	j = &conf.jails[1];
	assert_false(j->scope_port);
	assert_int_equal(j->rules[0].maxretry, 2);
	assert_int_equal(j->rules[1].maxretry, 35);
	assert_int_equal(j->rules[1].findtime_s, 2);
	j = &conf.jails[2];
	assert_false(j->kill);
	assert_int_equal(j->rules[0].maxretry, 35);
}

static void digests(void **state)
{
	uint8_t first[16];

	(void)state;
	put("c/jail.conf", "[web]\nenabled = yes\nlogpath = /l\n");
	load();
	memcpy(first, conf.digest, sizeof first);
	load();
	assert_memory_equal(first, conf.digest, sizeof first);
	put("c/jail.conf",
	    "# said differently\n[DEFAULT]\nbantime: 1h\n[web]\nlogpath = /l\nenabled = yes\n");
	load();
	assert_memory_equal(first, conf.digest, sizeof first);
	put("c/jail.local", "[web]\nfindtime = 11m\n");
	load();
	assert_memory_not_equal(first, conf.digest, sizeof first);
	put("c/jail.local", "");
	put("c/filter.d/web-burst.local", "[Definition]\nfailregex = ^other <HOST>\n");
	load();
	assert_memory_not_equal(first, conf.digest, sizeof first);
	put("c/filter.d/web-burst.local", "");
	put("c/tailban.conf", "[Definition]\nmaxbans = 500\n");
	load();
	assert_memory_not_equal(first, conf.digest, sizeof first);
}

static void places(void **state)
{
	char path[600];

	(void)state;
	refuse_again();
	expect_errors("c: holds no jail.conf, jail.d/*.conf or tailban.conf");
	snprintf(path, sizeof path, "%s/nowhere", top);
	assert_int_equal(conf_load(path, sdir, &conf, &errs), ERROR_CONFIG);
	expect_errors(
		"nowhere: cannot read the configuration directory: No such file or directory");
	put("file", "");
	snprintf(path, sizeof path, "%s/file", top);
	assert_int_equal(conf_load(path, sdir, &conf, NULL), ERROR_CONFIG);
	put("c/jail.conf", "[werkzeug-a]\nenabled = yes\nlogpath = /l\n");
	snprintf(path, sizeof path,
		 "mkdir %s/i && mv %s/filters %s/i/filter.d && mv %s/actions %s/i/action.d && "
		 "mv %s/etc/jail.conf %s/i/",
		 top, sdir, top, sdir, top, sdir, top);
	assert_int_equal(system(path), 0);
	snprintf(path, sizeof path, "%s/i", top);
	assert_int_equal(setenv("TAILBAN_DATADIR", path, 1), 0);
	assert_string_equal(conf_datadir(), path);
	assert_int_equal(conf_load(cdir, NULL, &conf, &errs), 0);
	assert_int_equal(conf.jails[0].rules[0].maxretry, 3);
	unsetenv("TAILBAN_DATADIR");
	conf_free(&conf);
	assert_int_equal(conf_load(cdir, "/nonexistent", &conf, &errs), ERROR_CONFIG);
	expect_errors("c/jail.conf:2: there is no filter 'werkzeug-a' (looked in c/filter.d and "
		      "/nonexistent)\n"
		      "c/jail.conf:2: there is no action 'nftables'\nc/jail.conf:2: there is no "
		      "action 'kill'");
}

static void quick(void **state)
{
	static const char *const paths[] = {"/var/log/a b.log", "/x/*[1]%(y)s tail", "rel;.out"};
	char cwd[512], wanted[1024];

	(void)state;
	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(conf_quick(paths, 3, sdir, &conf, &errs), 0);
	assert_int_equal(conf.njails, 2);
	assert_string_equal(conf.jails[0].name, "werkzeug-a");
	assert_string_equal(conf.jails[1].name, "sockets");
	assert_true(conf_borrows_ports(&conf.jails[1]));
	assert_int_equal(conf.jails[1].rules[0].filter.nfail, 0);
	assert_int_equal(conf.jails[0].rules[0].maxretry, 3);
	assert_int_equal(conf.jails[0].nlogpaths, 3);
	assert_string_equal(conf.jails[0].logpaths[0].text, "/var/log/a b.log");
	assert_string_equal(conf.jails[0].logpaths[1].text, "/x/[*][[]1]%(y)s tail");
	snprintf(wanted, sizeof wanted, "%s/rel;.out", cwd);
	assert_string_equal(conf.jails[0].logpaths[2].text, wanted);
	conf_free(&conf);
	assert_int_equal(conf_quick((const char *const[]){""}, 1, sdir, &conf, &errs),
			 ERROR_CONFIG);
	expect_errors("this cannot be the path of a log: ''");

	make_dir("odd [x]*%(d)s");
	snprintf(wanted, sizeof wanted, "%s/odd [x]*%%(d)s", top);
	assert_int_equal(chdir(wanted), 0);
	assert_int_equal(conf_quick(paths + 2, 1, sdir, &conf, &errs), 0);
	assert_non_null(strstr(conf.jails[0].logpaths[0].text, "/odd [[]x][*]%(d)s/rel;.out"));
	conf_free(&conf);
	assert_int_equal(chdir(cwd), 0);
	assert_int_equal(conf_quick(paths, 1, "/nonexistent", &conf, &errs), ERROR_CONFIG);
	expect_errors("the shipped filters are not in '/nonexistent'");
}

static void single_filters(void **state)
{
	struct filter_conf f, *list;
	struct error err = {0};
	char path[256];

	(void)state;
	assert_int_equal(conf_filter(cdir, sdir, "web-probe[path=\"/q\"]", &arena, &f, &err), 0);
	assert_string_equal(f.failregex[0].text, "^line\\sGET /q <HOST>");
	assert_int_equal(conf_filters(NULL, sdir, "web", &arena, &list, &err), 2);
	assert_string_equal(list[1].name, "web-burst");
	assert_int_equal(conf_filter(NULL, sdir, "web", &arena, &f, &err), ERROR_CONFIG);
	assert_string_equal(err.text, "'web' is a family of 2 filters, one of them is wanted");
	assert_int_equal(conf_filter(NULL, sdir, "web-brst", &arena, &f, &err), -ENOENT);
	assert_non_null(
		strstr(err.text, "there is no filter 'web-brst', did you mean 'web-burst'?"));
	assert_int_equal(conf_filter(NULL, sdir, "a b", &arena, &f, &err), ERROR_CONFIG);
	assert_int_equal(conf_filter(NULL, sdir, "a[", &arena, &f, &err), ERROR_CONFIG);
	put("mine.conf",
	    "[INCLUDES]\nbefore = web-common.conf\n[Definition]\nfailregex = %(_line)sx <HOST>\n");
	snprintf(path, sizeof path, "%s/mine.conf", top);
	assert_int_equal(conf_filter(NULL, sdir, path, &arena, &f, &err), 0);
	assert_string_equal(f.name, "mine");
	assert_string_equal(f.failregex[0].text, "^line\\sx <HOST>");
	assert_int_equal(conf_filter(NULL, sdir, "./nothing.conf", &arena, &f, NULL), -ENOENT);
}

static void backends(void **state)
{
	(void)state;
	put("c/jail.conf",
	    "[werkzeug-a]\nenabled = yes\nbackend = stdin\nbantime = 8w\nbackend = stdin\n");
	load();
	assert_int_equal(conf.jails[0].backend, BACKEND_STDIN);
	assert_int_equal(conf.jails[0].nlogpaths, 0);
	assert_int_equal(conf.jails[0].growth.maxtime_s, conf.jails[0].bantime_s);
	expect_warnings("c/jail.conf:2: bans of [werkzeug-a] do not grow, since bantime is above "
			"bantime.maxtime\n"
			"c/jail.conf:5: 'backend' is set twice in [werkzeug-a], this one counts "
			"and line 3 does not");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(smallest),
		TEST(filter_file),
		TEST(thresholds),
		TEST(all_keys),
		TEST(value_errors),
		TEST(scope_ports),
		TEST(sockets_errors),
		TEST(sockets_defaults),
		TEST(sockets_keys),
		TEST(sockets_fail2ban),
		TEST(sockets_sources),
		TEST(all_errors_at_once),
		TEST(helpers_are_no_errors),
		TEST(jail_overrides_filter),
		TEST(own_filters),
		TEST(bad_filters),
		TEST(command_actions),
		TEST(daemon_keys),
		TEST(fail2ban_tree),
		TEST(digests),
		TEST(places),
		TEST(quick),
		TEST(single_filters),
		TEST(backends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
