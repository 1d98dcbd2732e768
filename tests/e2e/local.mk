# End-to-end tests: real servers in network namespaces of their own. Python's standard library only.
# `make check E2E_TESTS=` leaves them out; E2E_SIZE=full runs them at the size of the README's table.
# E2E_DEFENDER=nobody shows that the attacks of test_silent.py, _kept, _slowhttptest, _innocents and
# _servers are outages, E2E_DEFENDER=loop what a shell loop makes of them.
e2e_tests = \
	%D%/test_lab.py \
	%D%/test_commands.py \
	%D%/test_doctor.py \
	%D%/test_bad_input.py \
	%D%/test_rotation.py \
	%D%/test_main_job.py \
	%D%/test_kill_off.py \
	%D%/test_containers.py \
	%D%/test_listener_lives.py \
	%D%/test_budget.py \
	%D%/test_flush.py \
	%D%/test_forged.py \
	%D%/test_restart.py \
	%D%/test_guilty_line.py \
	%D%/test_mutations.py \
	%D%/test_timing.py \
	%D%/test_namespace_user.py \
	%D%/test_silent.py \
	%D%/test_kept.py \
	%D%/test_slowhttptest.py \
	%D%/test_innocents.py \
	%D%/test_servers.py \
	%D%/test_idle.py
E2E_TESTS = $(e2e_tests)
TESTS += $(E2E_TESTS)
dist_check_SCRIPTS += $(e2e_tests)
EXTRA_DIST += %D%/lab.py %D%/traffic.py %D%/holders.py %D%/innocents.py %D%/servers.py %D%/siege.py \
	%D%/app.py %D%/asgi.py etc/demo/demo.py etc/demo/run.py

PY_LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
PY_LOG_COMPILER = /usr/bin/python3
AM_PY_LOG_FLAGS = -B
AM_TESTS_ENVIRONMENT += \
	TAILBAN_BUILD='$(abs_top_builddir)'; TAILBAN_DATADIR='$(abs_top_srcdir)'; \
	export TAILBAN_BUILD TAILBAN_DATADIR;

# The sizes of the README's table: ulimit -n 1024, 1,100 connections, 22 s an attack. Takes two hours.
e2e-full: all
	E2E_SIZE=full $(MAKE) check TESTS='$(e2e_tests)'
.PHONY: e2e-full
