/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions to the prober: see prober.h. A question that breaks its form is answered with -EINVAL.
 */
#include "daemon/sockets/prober.h"

#include <errno.h>

static bool is_net(const struct addr *a)
{
	return (a->family == ADDR_IPV4 || a->family == ADDR_IPV6) && a->plen <= addr_bits(a);
}

static int listener(const struct prober_question *q, struct owner *ret_owner)
{
	struct netlist proxies = {0};
	int r = 0;

	if (q->nproxies > PROBER_PROXIES_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < q->nproxies && r == 0; i++)
		r = is_net(&q->proxies[i]) ? netlist_add(&proxies, &q->proxies[i]) : -EINVAL;
	if (r == 0) {
		netlist_seal(&proxies);
		r = owner_find(q->dev, q->ino, &proxies, ret_owner);
	}
	netlist_free(&proxies);
	return r;
}

void prober_handle(const struct prober_question *question, struct prober_answer *ret_answer)
{
	memset(ret_answer, 0, sizeof *ret_answer);
	ret_answer->kind = question->kind;
	ret_answer->token = question->token;
	switch (question->kind) {
	case PROBER_LISTENER:
		ret_answer->error = listener(question, &ret_answer->owner);
		break;
	case PROBER_SSHPEERS:
		ret_answer->error = sshpeers_find(NULL, &ret_answer->ssh);
		break;
	default:
		ret_answer->error = -EINVAL;
	}
}
