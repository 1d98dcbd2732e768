dist_action_DATA += \
	%D%/kill.conf \
	%D%/nftables.conf \
	%D%/run.conf
