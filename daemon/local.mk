# The library that daemon, client, tests and fuzzers link; a block for each room.
noinst_LIBRARIES += %D%/libtailban.a
%C%_libtailban_a_SOURCES =
%C%_libtailban_a_SOURCES += \
	%D%/base/addr.c %D%/base/addr.h %D%/base/arena.c %D%/base/arena.h \
	%D%/base/clock.h %D%/base/error.c %D%/base/error.h %D%/base/escape.c \
	%D%/base/escape.h %D%/base/hash.c %D%/base/hash.h %D%/base/hostaddr.c \
	%D%/base/hostaddr.h %D%/base/ignore.c %D%/base/ignore.h %D%/base/log.c \
	%D%/base/log.h %D%/base/message.c %D%/base/message.h %D%/base/netlink.c \
	%D%/base/netlink.h %D%/base/netlist.c %D%/base/netlist.h %D%/base/notify.c \
	%D%/base/notify.h %D%/base/process.c %D%/base/process.h %D%/base/slice.c \
	%D%/base/slice.h %D%/base/sockdiag.c %D%/base/sockdiag.h
%C%_libtailban_a_SOURCES += \
	%D%/config/action.c %D%/config/action_tags.def %D%/config/conf.c \
	%D%/config/conf.h %D%/config/daemon_keys.def %D%/config/filter.c \
	%D%/config/ini.c %D%/config/ini.h %D%/config/interpolate.c %D%/config/jail.c \
	%D%/config/jail_keys.def %D%/config/keys.c %D%/config/keys.h \
	%D%/config/loader.h %D%/config/place.c %D%/config/report.c %D%/config/report.h \
	%D%/config/sources.c %D%/config/sources.h %D%/config/spec.c \
	%D%/config/suggest.c %D%/config/suggest.h %D%/config/textbuf.c \
	%D%/config/textbuf.h %D%/config/times.c %D%/config/times.h
%C%_libtailban_a_SOURCES += \
	%D%/source/seek.c %D%/source/source.c %D%/source/source.h %D%/source/stream.c \
	%D%/source/stream.h %D%/source/tail.c %D%/source/tail.h %D%/source/watch.c \
	%D%/source/watch.h
%C%_libtailban_a_SOURCES += \
	%D%/filter/date.c %D%/filter/date.h %D%/filter/dateformat.c \
	%D%/filter/dateformat.h %D%/filter/filter.c %D%/filter/filter.h \
	%D%/filter/pattern.c %D%/filter/pattern.h %D%/filter/tags.c %D%/filter/tags.h
%C%_libtailban_a_SOURCES += \
	%D%/jail/bans.c %D%/jail/bans.h %D%/jail/evidence.c %D%/jail/evidence.h \
	%D%/jail/growth.c %D%/jail/growth.h %D%/jail/ledger.c %D%/jail/ledger.h \
	%D%/jail/mask.c %D%/jail/slots.c %D%/jail/slots.h %D%/jail/tally.c %D%/jail/tally.h
%C%_libtailban_a_SOURCES += \
	%D%/sockets/blocked.c %D%/sockets/blocked.h %D%/sockets/budget.c \
	%D%/sockets/budget.h %D%/sockets/census.c %D%/sockets/census.h \
	%D%/sockets/enterer.c %D%/sockets/enterer.h \
	%D%/sockets/holders.c %D%/sockets/holders.h %D%/sockets/netstat.c \
	%D%/sockets/netstat.h %D%/sockets/owner.c %D%/sockets/owner.h \
	%D%/sockets/prober.c %D%/sockets/prober.h %D%/sockets/proc.c %D%/sockets/proc.h \
	%D%/sockets/sshpeers.c %D%/sockets/sshpeers.h %D%/sockets/verdict.c \
	%D%/sockets/verdict.h %D%/sockets/waits.c %D%/sockets/waits.h
%C%_libtailban_a_SOURCES += \
	%D%/enforcer/commands.c %D%/enforcer/endpoint.c %D%/enforcer/enforcer.c \
	%D%/enforcer/enforcer.h %D%/enforcer/enter.c %D%/enforcer/firewall.c %D%/enforcer/firewall.h \
	%D%/enforcer/firewall_bans.c %D%/enforcer/firewall_found.c \
	%D%/enforcer/firewall_impl.h \
	%D%/enforcer/firewall_message.c %D%/enforcer/firewall_record.c \
	%D%/enforcer/firewall_record.h %D%/enforcer/firewall_record_impl.h \
	%D%/enforcer/firewall_rules.c %D%/enforcer/firewall_seen.c \
	%D%/enforcer/firewall_watch.c %D%/enforcer/inforce.c %D%/enforcer/inforce.h \
	%D%/enforcer/logfile.c %D%/enforcer/logfile.h %D%/enforcer/protocol.h \
	%D%/enforcer/reaper.c %D%/enforcer/reaper.h %D%/enforcer/requests.c \
	%D%/enforcer/runner.c %D%/enforcer/runner.h %D%/enforcer/service.c \
	%D%/enforcer/spaces.c %D%/enforcer/spaces.h %D%/enforcer/state.h \
	%D%/enforcer/watches.c %D%/enforcer/witness.c
%C%_libtailban_a_SOURCES += \
	%D%/control/requests.c %D%/control/requests.h %D%/control/server.c \
	%D%/control/server.h
%C%_libtailban_a_SOURCES += \
	%D%/engine/banlist.c %D%/engine/commands.c %D%/engine/detector.c \
	%D%/engine/detector.h %D%/engine/engine.c %D%/engine/engine.h \
	%D%/engine/lines.c %D%/engine/reload.c %D%/engine/resume.c %D%/engine/resume.h \
	%D%/engine/sockets.c %D%/engine/state.h %D%/engine/view.c

sbin_PROGRAMS += %D%/tailband
%C%_tailband_SOURCES = %D%/tailband.c
%C%_tailband_LDADD = $(DAEMON_LIBS)
