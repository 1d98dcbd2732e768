# The shipped filters; their samples are test material and are not installed.
dist_filter_DATA += %D%/werkzeug-common.conf %D%/werkzeug.conf \
	%D%/werkzeug-bad-request.conf %D%/werkzeug-probe.conf %D%/werkzeug-auth.conf \
	%D%/werkzeug-burst.conf %D%/werkzeug-timeout.conf %D%/werkzeug-method.conf
EXTRA_DIST += %D%/README.md %D%/werkzeug.samples \
	%D%/werkzeug-bad-request.samples %D%/werkzeug-probe.samples %D%/werkzeug-auth.samples \
	%D%/werkzeug-burst.samples %D%/werkzeug-timeout.samples %D%/werkzeug-method.samples
