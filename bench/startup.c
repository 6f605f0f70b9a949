/* SPDX-License-Identifier: MIT */
/*
 * (f) What 100,000 sites cost at start-up, and (g) in memory and in the file: a program
 * whose sites are found by scanning its relocations, and the same with a site table
 * (shunt bake), against the same linked without relocations, whose calls stay on the
 * trampolines.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/poke.h"

enum { SITES = 100000 };

/* The baked program, beside the other: it may look for libshunt from there. */
static char baked[4096];

/* ---------------------------------------------------------------- shunt bake */

static bool copy(const char *from, int to)
{
	struct stat st;
	off_t done = 0;
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	bool good = fd >= 0 && !fstat(fd, &st) && !fchmod(to, 0700);

	while (good && done < st.st_size)
		good = sendfile(to, fd, &done, (size_t)(st.st_size - done)) > 0;
	if (fd >= 0)
		(void)close(fd);
	return good;
}

/* The tool: this program itself, or the one that was built beside it. */
static bool find_tool(const struct bench *b, char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);

	if (n > 0) {
		path[n] = '\0';
		if (n > 6 && !strcmp(path + n - 6, "/shunt"))
			return true;
	}
	snprintf(path, size, "%s/../tools/shunt", b->dir);
	return !access(path, X_OK);
}

static bool run_bake(char *tool)
{
	extern char **environ;
	char *argv[] = {tool, (char *)"bake", baked, NULL};
	posix_spawn_file_actions_t quiet;
	int status = -1;
	pid_t pid;

	if (posix_spawn_file_actions_init(&quiet))
		return false;
	(void)posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	(void)posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
	if (!posix_spawn(&pid, tool, &quiet, NULL, argv, environ))
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	posix_spawn_file_actions_destroy(&quiet);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* Make the baked program. NULL, or why there is none. */
static const char *bake(const struct bench *b)
{
	char tool[4096], from[4096];
	int fd;

	if (!find_tool(b, tool, sizeof(tool)))
		return "no tool `shunt`";
	snprintf(from, sizeof(from), "%s/shunt-bench-sites", b->dir);
	snprintf(baked, sizeof(baked), "%s/baked-XXXXXX", b->dir);
	fd = mkostemp(baked, O_CLOEXEC);
	if (fd < 0)
		return strerror(errno);
	if (!copy(from, fd)) {
		(void)close(fd);
		return "shunt-bench-sites cannot be copied";
	}
	(void)close(fd); /* first: a file that is open for writing cannot be run */
	return run_bake(tool) ? NULL : "`shunt bake` failed, or is not there";
}

/* ------------------------------------------------------------------- the rows */

static void add(struct bench *b, const struct bench_set *set, const char *series, const char *name,
		const char *floor)
{
	const struct bench_series *s = bench_find(set, series);
	const struct bench_series *f = floor ? bench_find(set, floor) : NULL;
	struct bench_series named, named_floor;

	if (!s)
		return;
	named = *s;
	snprintf(named.name, sizeof(named.name), "%s", name);
	if (f) {
		named_floor = *f;
		snprintf(named_floor.name, sizeof(named_floor.name), "no sites known");
	}
	bench_add(b, "startup", "ms", &named, f ? &named_floor : NULL);
}

/* What @what (KiB) is bigger by in @series than in the program without sites. */
static void add_memory(struct bench *b, const struct bench_set *set, const char *series,
		       const char *what, const char *name)
{
	char with[64], without[64];
	const struct bench_series *s, *floor;
	struct bench_series bytes;

	snprintf(with, sizeof(with), "%s:%s", series, what);
	snprintf(without, sizeof(without), "plain:%s", what);
	s = bench_find(set, with);
	floor = bench_find(set, without);
	if (!s || !floor || s->n != floor->n)
		return;
	bytes = *s;
	snprintf(bytes.name, sizeof(bytes.name), "%s", name);
	for (size_t i = 0; i < s->n; i++)
		bytes.v[i] = (s->v[i] - floor->v[i]) * 1024 / SITES;
	bench_add(b, "memory", "B/site", &bytes, NULL);
}

static void add_one(struct bench *b, const char *name, double bytes)
{
	struct bench_series s = {.n = 1, .v = {bytes}};

	snprintf(s.name, sizeof(s.name), "%s", name);
	bench_add(b, "memory", "B/site", &s, NULL);
}

static void add_file(struct bench *b, const char *path, const char *name)
{
	struct stat with, without;
	char plain[4096], own[4096];

	snprintf(plain, sizeof(plain), "%s/shunt-bench-plain", b->dir);
	snprintf(own, sizeof(own), "%s%s%s", path[0] == '/' ? "" : b->dir,
		 path[0] == '/' ? "" : "/", path);
	if (!stat(own, &with) && !stat(plain, &without))
		add_one(b, name, ((double)with.st_size - (double)without.st_size) / SITES);
}

static void add_rows(struct bench *b, const struct bench_set *set, bool is_baked)
{
	add(b, set, "plain:main", "exec to main, no sites known", NULL);
	add(b, set, "scan:main", "exec to main, scanned", "plain:main");
	add(b, set, "baked:main", "exec to main, baked", "plain:main");
	add(b, set, "plain:constructors", "constructors, no sites known", NULL);
	add(b, set, "scan:constructors", "constructors, scanned", "plain:constructors");
	add(b, set, "baked:constructors", "constructors, baked", "plain:constructors");

	add_file(b, "shunt-bench-sites", "in the file, scanned");
	if (is_baked)
		add_file(b, baked, "in the file, baked");
	add_memory(b, set, "scan", "rss", "resident at main, scanned");
	add_memory(b, set, "scan", "dirty", "private and dirty at main, scanned");
	add_memory(b, set, "scan", "peak", "peak before main, scanned");
	add_memory(b, set, "baked", "rss", "resident at main, baked");
	add_memory(b, set, "baked", "dirty", "private and dirty at main, baked");
	add_memory(b, set, "baked", "peak", "peak before main, baked");
	add_one(b, "the record alone (struct shunt_site)", sizeof(struct shunt_site));
	add_one(b, "during an update (struct shunt_poke)", sizeof(struct shunt_poke));
}

void bench_startup(struct bench *b)
{
	struct bench_set *set = calloc(1, sizeof(*set));
	const char *no_bake = bake(b), *why = NULL;
	size_t rounds = b->quick ? 9 : 41;

	for (size_t round = 0; set && !why && round < rounds; round++) {
		why = bench_program(b, "shunt-bench-plain", "startup", "SHUNT_LOG=0",
				    "plain:", set);
		if (!why)
			why = bench_program(b, "shunt-bench-sites", "startup", NULL, "scan:", set);
		if (!why && !no_bake)
			no_bake = bench_program(b, baked, "startup", NULL, "baked:", set);
	}
	if (why)
		bench_skip(b, "startup", "100,000 sites", why);
	else if (set)
		add_rows(b, set, !no_bake);
	if (!why && no_bake)
		bench_skip(b, "startup", "baked", no_bake);
	(void)unlink(baked);
	free(set);
}
