/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailban reload: the configuration again, all or nothing; what is wrong is said with file and
 * line. */
#include "client/link.h"
#include "client/options.h"

#include <stdio.h>

int reload_command(struct client *c, int argc, char **argv)
{
	int n = options_parse(c, argc, argv, NULL, false), r;
	json_t *data = NULL, *args;

	if (n < 0)
		return options_status(c);
	if (n > 1)
		return client_usage(c, "unexpected argument '%s'", argv[2]);
	args = json_object();
	if (n == 1)
		json_object_set_new(args, "jail", json_string(argv[1]));
	r = link_once(c, "reload", args, &data);
	json_decref(data);
	if (r == CLIENT_YES)
		puts(c->json ? "{\"reloaded\": true}" : "the configuration is reloaded");
	return r;
}
