# Configuration as shipped: defaults in pkgdatadir, a commented daemon file in sysconfdir, the unit.
dist_pkgdata_DATA = %D%/jail.conf
confdir = $(sysconfdir)/tailban
dist_conf_DATA = %D%/tailban.conf
systemdsystemunit_DATA = %D%/tailban.service
CLEANFILES += %D%/tailban.service
EXTRA_DIST += %D%/tailban.service.in

%D%/tailban.service: %D%/tailban.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && \
	$(SED) -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' \
		'$(srcdir)/%D%/tailban.service.in' >$@.tmp && mv $@.tmp $@

bashcompletiondir = $(datadir)/bash-completion/completions
dist_bashcompletion_DATA = %D%/completions/bash/tailban
