/* SPDX-License-Identifier: MIT */
/*
 * A program with 100,000 static branches of one key, which measures itself and prints "name value"
 * lines: ns a site, of 1 to 100,000 of them, alone and with a thread running. (sites_main.c does
 * the same of static calls.) The branches are in branches_100000_x86_64.S; nothing executes them.
 */
#include <shunt/inspect.h>
#include <shunt/static_key.h>
#include <stdio.h>

#include "sites_measure.h"

DEFINE_STATIC_KEY_FALSE(branches_1);
DEFINE_STATIC_KEY_FALSE(branches_10);
DEFINE_STATIC_KEY_FALSE(branches_1000);
DEFINE_STATIC_KEY_FALSE(branches_100000);

#define SWITCH(key, on) ((on) ? static_branch_enable(&(key)) : static_branch_disable(&(key)))

static int one_switch(size_t n, int turn)
{
	bool on = turn % 2 == 0;

	if (n == 1)
		return SWITCH(branches_1, on);
	if (n == 10)
		return SWITCH(branches_10, on);
	if (n == 1000)
		return SWITCH(branches_1000, on);
	return SWITCH(branches_100000, on);
}

static void measure_all(const char *company)
{
	static const size_t sizes[] = {1, 10, 1000, 100000};

	for (int round = 0; round < 5; round++)
		for (size_t i = 0; i < 3; i++)
			sites_measure("switch", one_switch, sizes[i], sites_repeats(sizes[i]),
				      company);
	sites_measure("switch", one_switch, sizes[3], sites_repeats(sizes[3]), company);
}

static void run_elsewhere(void)
{
	__asm__ volatile("");
}

int main(void)
{
	/* Once first: pages are copied at a site's first poke. */
	if (one_switch(100000, 0) || one_switch(100000, 1)) {
		fprintf(stderr, "%s\n", shunt_last_error());
		return 1;
	}
	measure_all("alone");
	if (!sites_thread_start(run_elsewhere))
		return 0;
	measure_all("thread");
	sites_thread_stop();
	return 0;
}
