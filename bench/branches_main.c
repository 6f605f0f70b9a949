/* SPDX-License-Identifier: MIT */
/*
 * A program with 100,000 static branches of one key, which measures itself and prints "name value"
 * lines: ns a site, of 1 to 100,000 of them, alone and with a thread running. (sites_main.c does
 * the same of static calls.) The branches are in branches_100000_x86_64.S; nothing executes them.
 *
 * The floor of 100,000 of them: their pages read and written back as they are, and a core sync.
 */
#include <fcntl.h>
#include <linux/membarrier.h>
#include <shunt/inspect.h>
#include <shunt/static_key.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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

extern __attribute__((visibility("hidden"))) char bench_branches_start[], bench_branches_end[];

static int one_floor(size_t n, int turn)
{
	static char buf[1 << 16];
	static int mem = -1;
	uintptr_t at = (uintptr_t)bench_branches_start & -4096ul;
	uintptr_t end = (uintptr_t)bench_branches_end;
	int err = 0;

	(void)n;
	(void)turn;
	if (mem < 0)
		mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	for (size_t len; at < end && !err; at += len) {
		len = end - at < sizeof(buf) ? end - at : sizeof(buf);
		memcpy(buf, (const void *)at, len);
		err = pwrite(mem, buf, len, (off_t)at) != (ssize_t)len;
	}
	return err || syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
}

static void measure_all(const char *company)
{
	static const size_t sizes[] = {1, 10, 1000, 100000};

	for (int round = 0; round < 5; round++)
		for (size_t i = 0; i < 3; i++)
			sites_measure("switch", one_switch, sizes[i], sites_repeats(sizes[i]),
				      company);
	sites_measure("floor", one_floor, sizes[3], sites_repeats(sizes[3]), company);
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
