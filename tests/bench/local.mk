# Measuring programs: `make bench` prints the table of the README. test_timing.py runs bench_latency with few
# samples, so it is built for `make check` too.
bench_common = %D%/bench.h %D%/lab.c
check_PROGRAMS += %D%/bench_latency
%C%_bench_latency_SOURCES = %D%/bench_latency.c %D%/bare.c %D%/daemon.c %D%/watcher.c $(bench_common)
%C%_bench_latency_LDADD = $(DAEMON_LIBS) -lpthread

EXTRA_PROGRAMS += %D%/bench_lines
%C%_bench_lines_SOURCES = %D%/bench_lines.c $(bench_common)
%C%_bench_lines_LDADD = $(DAEMON_LIBS) -lpthread

EXTRA_PROGRAMS += %D%/bench_census
%C%_bench_census_SOURCES = %D%/bench_census.c
%C%_bench_census_LDADD = $(DAEMON_LIBS)
EXTRA_PROGRAMS += %D%/bench_record
%C%_bench_record_SOURCES = %D%/bench_record.c $(bench_common)
%C%_bench_record_LDADD = $(DAEMON_LIBS) -lpthread

# The daemon with an engine that ends on a line with this text; for test_guilty_line.py.
check_PROGRAMS += tests/e2e/tailband_crash
tests_e2e_tailband_crash_SOURCES = daemon/tailband.c daemon/engine/detector.c
tests_e2e_tailband_crash_CPPFLAGS = $(AM_CPPFLAGS) -DTAILBAN_CRASH_LINE='"crash-here"'
tests_e2e_tailband_crash_LDADD = $(DAEMON_LIBS)

EXTRA_DIST += %D%/README.md %D%/bench.py %D%/compare.py %D%/held.py %D%/loop.sh
CLEANFILES += %D%/bench_lines %D%/bench_census %D%/bench_record
bench: daemon/tailband %D%/bench_latency %D%/bench_lines %D%/bench_census %D%/bench_record
	/usr/bin/python3 -B '$(srcdir)/%D%/bench.py' --daemon daemon/tailband --datadir '$(srcdir)' \
		--programs %D%

# Side by side with fail2ban (Debian's package must be installed), about 13 minutes; RUNS=1 about 4.
compare: all
	TAILBAN_BUILD='$(abs_top_builddir)' TAILBAN_DATADIR='$(abs_top_srcdir)' \
		/usr/bin/python3 -B '$(srcdir)/%D%/compare.py' $(COMPARE_FLAGS)

# Attacks that write nothing to the log, with nobody, fail2ban, a shell loop and tailban; half an hour.
held: all
	TAILBAN_BUILD='$(abs_top_builddir)' TAILBAN_DATADIR='$(abs_top_srcdir)' \
		/usr/bin/python3 -B '$(srcdir)/%D%/held.py' $(HELD_FLAGS)
.PHONY: bench compare held
