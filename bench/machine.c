/* SPDX-License-Identifier: MIT */
/*
 * The machine that the results are from: on a busy or virtual one the ratios hold, the
 * absolute times do not.
 */
#include "bench.h"

#include <shunt/inspect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void cpu_model(char *model, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(model, size, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(model, size, "%s", colon + 2);
		break;
	}
	if (f)
		(void)fclose(f);
}

void bench_see_machine(struct bench_machine *m)
{
	struct shunt_ways ways;
	struct utsname u;

	cpu_model(m->cpu, sizeof(m->cpu));
	(void)uname(&u);
	snprintf(m->kernel, sizeof(m->kernel), "%s", u.release);
	m->compiler = COMPILER;
	m->cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	shunt_get_ways(&ways);
	m->poke = ways.poke;
	m->write = ways.write;
	m->sync = ways.sync;
	m->load = bench_load();
}

double bench_load(void)
{
	double load = 0;

	return getloadavg(&load, 1) == 1 ? load : -1;
}
