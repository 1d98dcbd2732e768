# The command: one file a subcommand, see client.h.
bin_PROGRAMS += %D%/tailban
%C%_tailban_SOURCES = \
	%D%/main.c %D%/client.h \
	%D%/options.c %D%/options.h %D%/link.c %D%/link.h %D%/rows.c %D%/rows.h %D%/text.c %D%/text.h \
	%D%/status.c %D%/banned.c %D%/ban.c %D%/why.c %D%/reload.c \
	%D%/doctor.c %D%/doctor.h %D%/doctor_daemon.c %D%/doctor_find.c %D%/doctor_host.c \
	%D%/doctor_judge.c %D%/doctor_log.c %D%/doctor_service.c \
	%D%/findings.c %D%/findings.h %D%/threads.c %D%/threads.h %D%/vitals.c %D%/vitals.h \
	%D%/conns.c %D%/peers.c %D%/peers.h %D%/present.c %D%/present.h \
	%D%/replay.c %D%/events.c %D%/events.h %D%/logreader.c %D%/logreader.h
%C%_tailban_LDADD = $(DAEMON_LIBS)
