# Unit tests mirror daemon/; fuzz bodies are always built as corpus replayers, so they never rot.
AM_TESTS_ENVIRONMENT = srcdir='$(srcdir)'; top_builddir='$(top_builddir)'; \
	CMOCKA_MESSAGE_OUTPUT=TAP; export srcdir top_builddir CMOCKA_MESSAGE_OUTPUT;
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
LOG_COMPILER = $(SHELL) $(top_srcdir)/tests/tap.sh
SH_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_COMPILER = $(SHELL)
TEST_EXTENSIONS = .py .sh
UNIT_LIBS = $(DAEMON_LIBS) $(CMOCKA_LIBS) -lpthread

unit_tests = \
	%D%/unit/test_addr \
	%D%/unit/test_bans \
	%D%/unit/test_budget \
	%D%/unit/test_census \
	%D%/unit/test_commands \
	%D%/unit/test_conf \
	%D%/unit/test_corpus \
	%D%/unit/test_date \
	%D%/unit/test_escape \
	%D%/unit/test_evidence \
	%D%/unit/test_filter \
	%D%/unit/test_firewall \
	%D%/unit/test_growth \
	%D%/unit/test_hash \
	%D%/unit/test_hostaddr \
	%D%/unit/test_ignore \
	%D%/unit/test_inforce \
	%D%/unit/test_ini \
	%D%/unit/test_ledger \
	%D%/unit/test_logfile \
	%D%/unit/test_netlink \
	%D%/unit/test_netlist \
	%D%/unit/test_owner \
	%D%/unit/test_pattern \
	%D%/unit/test_reaper \
	%D%/unit/test_record \
	%D%/unit/test_requests \
	%D%/unit/test_runner \
	%D%/unit/test_server \
	%D%/unit/test_slice \
	%D%/unit/test_sockdiag \
	%D%/unit/test_source \
	%D%/unit/test_spaces \
	%D%/unit/test_sshpeers \
	%D%/unit/test_tags \
	%D%/unit/test_tail \
	%D%/unit/test_tally \
	%D%/unit/test_times \
	%D%/unit/test_verdict \
	%D%/unit/test_waits

if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
%C%_unit_test_addr_SOURCES = %D%/unit/test_addr.c %D%/unit/random.h
%C%_unit_test_addr_LDADD = $(UNIT_LIBS)
%C%_unit_test_bans_SOURCES = %D%/unit/test_bans.c %D%/unit/random.h
%C%_unit_test_bans_LDADD = $(UNIT_LIBS)
%C%_unit_test_census_SOURCES = %D%/unit/test_census.c %D%/unit/netns.h
%C%_unit_test_census_LDADD = $(UNIT_LIBS)
%C%_unit_test_commands_SOURCES = %D%/unit/test_commands.c
%C%_unit_test_commands_LDADD = $(UNIT_LIBS)
%C%_unit_test_budget_SOURCES = %D%/unit/test_budget.c %D%/unit/netns.h
%C%_unit_test_budget_LDADD = $(UNIT_LIBS)
%C%_unit_test_conf_SOURCES = %D%/unit/test_conf.c
%C%_unit_test_conf_LDADD = $(UNIT_LIBS)
%C%_unit_test_corpus_SOURCES = %D%/unit/test_corpus.c
%C%_unit_test_corpus_LDADD = $(UNIT_LIBS)
%C%_unit_test_date_SOURCES = %D%/unit/test_date.c
%C%_unit_test_date_LDADD = $(UNIT_LIBS)
%C%_unit_test_escape_SOURCES = %D%/unit/test_escape.c %D%/unit/random.h
%C%_unit_test_escape_LDADD = $(UNIT_LIBS)
%C%_unit_test_evidence_SOURCES = %D%/unit/test_evidence.c %D%/unit/random.h
%C%_unit_test_evidence_LDADD = $(UNIT_LIBS)
%C%_unit_test_filter_SOURCES = %D%/unit/test_filter.c
%C%_unit_test_filter_LDADD = $(UNIT_LIBS)
%C%_unit_test_firewall_SOURCES = %D%/unit/test_firewall.c %D%/unit/netns.h
%C%_unit_test_firewall_LDADD = $(UNIT_LIBS)
%C%_unit_test_growth_SOURCES = %D%/unit/test_growth.c %D%/unit/random.h
%C%_unit_test_growth_LDADD = $(UNIT_LIBS)
%C%_unit_test_hash_SOURCES = %D%/unit/test_hash.c %D%/unit/random.h
%C%_unit_test_hash_LDADD = $(UNIT_LIBS)
%C%_unit_test_hostaddr_SOURCES = %D%/unit/test_hostaddr.c
%C%_unit_test_hostaddr_LDADD = $(UNIT_LIBS)
%C%_unit_test_ignore_SOURCES = %D%/unit/test_ignore.c %D%/unit/random.h
%C%_unit_test_ignore_LDADD = $(UNIT_LIBS)
%C%_unit_test_inforce_SOURCES = %D%/unit/test_inforce.c %D%/unit/random.h
%C%_unit_test_inforce_LDADD = $(UNIT_LIBS)
%C%_unit_test_ini_SOURCES = %D%/unit/test_ini.c %D%/unit/random.h
%C%_unit_test_ini_LDADD = $(UNIT_LIBS)
%C%_unit_test_ledger_SOURCES = %D%/unit/test_ledger.c %D%/unit/random.h
%C%_unit_test_ledger_LDADD = $(UNIT_LIBS)
%C%_unit_test_logfile_SOURCES = %D%/unit/test_logfile.c
%C%_unit_test_logfile_LDADD = $(UNIT_LIBS)
%C%_unit_test_netlink_SOURCES = %D%/unit/test_netlink.c %D%/unit/netns.h
%C%_unit_test_netlink_LDADD = $(UNIT_LIBS)
%C%_unit_test_netlist_SOURCES = %D%/unit/test_netlist.c %D%/unit/random.h
%C%_unit_test_netlist_LDADD = $(UNIT_LIBS)
%C%_unit_test_owner_SOURCES = %D%/unit/test_owner.c %D%/unit/netns.h
%C%_unit_test_owner_LDADD = $(UNIT_LIBS)
%C%_unit_test_pattern_SOURCES = %D%/unit/test_pattern.c
%C%_unit_test_pattern_LDADD = $(UNIT_LIBS)
%C%_unit_test_reaper_SOURCES = %D%/unit/test_reaper.c %D%/unit/netns.h
%C%_unit_test_reaper_LDADD = $(UNIT_LIBS)
%C%_unit_test_record_SOURCES = %D%/unit/test_record.c %D%/unit/rawtcp.h %D%/unit/netns.h
%C%_unit_test_record_LDADD = $(UNIT_LIBS)
%C%_unit_test_requests_SOURCES = %D%/unit/test_requests.c %D%/unit/control_harness.h
%C%_unit_test_requests_LDADD = $(UNIT_LIBS)
%C%_unit_test_runner_SOURCES = %D%/unit/test_runner.c %D%/unit/random.h
%C%_unit_test_runner_LDADD = $(UNIT_LIBS)
%C%_unit_test_server_SOURCES = %D%/unit/test_server.c %D%/unit/control_harness.h
%C%_unit_test_server_LDADD = $(UNIT_LIBS)
%C%_unit_test_slice_SOURCES = %D%/unit/test_slice.c %D%/unit/random.h
%C%_unit_test_slice_LDADD = $(UNIT_LIBS)
%C%_unit_test_sockdiag_SOURCES = %D%/unit/test_sockdiag.c %D%/unit/netns.h
%C%_unit_test_sockdiag_LDADD = $(UNIT_LIBS)
%C%_unit_test_source_SOURCES = %D%/unit/test_source.c
%C%_unit_test_source_LDADD = $(UNIT_LIBS)
%C%_unit_test_spaces_SOURCES = %D%/unit/test_spaces.c %D%/unit/netns.h
%C%_unit_test_spaces_LDADD = $(UNIT_LIBS)
%C%_unit_test_sshpeers_SOURCES = %D%/unit/test_sshpeers.c %D%/unit/netns.h
%C%_unit_test_sshpeers_LDADD = $(UNIT_LIBS)
%C%_unit_test_tags_SOURCES = %D%/unit/test_tags.c
%C%_unit_test_tags_LDADD = $(UNIT_LIBS)
%C%_unit_test_tail_SOURCES = %D%/unit/test_tail.c
%C%_unit_test_tail_LDADD = $(UNIT_LIBS)
%C%_unit_test_tally_SOURCES = %D%/unit/test_tally.c
%C%_unit_test_tally_LDADD = $(UNIT_LIBS)
%C%_unit_test_times_SOURCES = %D%/unit/test_times.c %D%/unit/random.h
%C%_unit_test_times_LDADD = $(UNIT_LIBS)
%C%_unit_test_verdict_SOURCES = %D%/unit/test_verdict.c
%C%_unit_test_verdict_LDADD = $(UNIT_LIBS)
%C%_unit_test_waits_SOURCES = %D%/unit/test_waits.c %D%/unit/netns.h %D%/unit/random.h
%C%_unit_test_waits_LDADD = $(UNIT_LIBS)

fuzz_targets = \
	%D%/fuzz/fuzz_date \
	%D%/fuzz/fuzz_filter \
	%D%/fuzz/fuzz_ini \
	%D%/fuzz/fuzz_lines \
	%D%/fuzz/fuzz_request
check_PROGRAMS += $(fuzz_targets)
if FUZZERS
FUZZ_FLAGS = -fsanitize=fuzzer
FUZZ_MAIN =
else
FUZZ_FLAGS =
FUZZ_MAIN = %D%/fuzz/replay.c
TESTS += $(fuzz_targets)
endif
%C%_fuzz_fuzz_date_SOURCES = %D%/fuzz/fuzz_date.c
nodist_%C%_fuzz_fuzz_date_SOURCES = $(FUZZ_MAIN)
%C%_fuzz_fuzz_date_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_date_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_date_LDADD = $(DAEMON_LIBS)
%C%_fuzz_fuzz_filter_SOURCES = %D%/fuzz/fuzz_filter.c
nodist_%C%_fuzz_fuzz_filter_SOURCES = $(FUZZ_MAIN)
%C%_fuzz_fuzz_filter_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_filter_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_filter_LDADD = $(DAEMON_LIBS)
%C%_fuzz_fuzz_ini_SOURCES = %D%/fuzz/fuzz_ini.c
nodist_%C%_fuzz_fuzz_ini_SOURCES = $(FUZZ_MAIN)
%C%_fuzz_fuzz_ini_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_ini_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_ini_LDADD = $(DAEMON_LIBS)
%C%_fuzz_fuzz_lines_SOURCES = %D%/fuzz/fuzz_lines.c
nodist_%C%_fuzz_fuzz_lines_SOURCES = $(FUZZ_MAIN)
%C%_fuzz_fuzz_lines_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_lines_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_lines_LDADD = $(DAEMON_LIBS)
%C%_fuzz_fuzz_request_SOURCES = %D%/fuzz/fuzz_request.c
nodist_%C%_fuzz_fuzz_request_SOURCES = $(FUZZ_MAIN)
%C%_fuzz_fuzz_request_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_request_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
%C%_fuzz_fuzz_request_LDADD = $(DAEMON_LIBS)
EXTRA_DIST += %D%/fuzz/replay.c

# `make check LINT_TESTS=` leaves the analyzers out; they take two minutes.
LINT_TESTS = %D%/lint.sh
dist_check_SCRIPTS += %D%/arrows.sh %D%/lint.sh %D%/tap.sh
TESTS += %D%/arrows.sh $(LINT_TESTS)
EXTRA_DIST += .clang-tidy %D%/lint %D%/corpus %D%/fuzz/seeds
dist-hook:
	find '$(distdir)' -name __pycache__ -type d | xargs -r rm -rf

include %D%/e2e/local.mk
include %D%/bench/local.mk
