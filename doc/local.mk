EXTRA_DIST += %D%/sockets.md
dist_man_MANS = %D%/tailban.1 %D%/tailban.conf.5 %D%/tailband.8
