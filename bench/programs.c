/* SPDX-License-Identifier: MIT */
/*
 * Programs that measure themselves: started, waited for, and their samples collected.
 */
#include "bench.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const struct bench_series *bench_find(const struct bench_set *set, const char *name)
{
	for (size_t i = 0; i < set->n; i++)
		if (!strcmp(set->s[i].name, name))
			return &set->s[i];
	return NULL;
}

static void collect(struct bench_set *set, const char *name, double value)
{
	struct bench_series *s = (struct bench_series *)bench_find(set, name);

	if (!s) {
		if (set->n == BENCH_SERIES_MAX)
			return;
		s = &set->s[set->n++];
		snprintf(s->name, sizeof(s->name), "%.63s", name);
	}
	if (s->n < BENCH_ROUNDS_MAX)
		s->v[s->n++] = value;
}

static void read_samples(FILE *f, const char *prefix, struct bench_set *set)
{
	char line[256];

	while (fgets(line, sizeof(line), f)) {
		char *space = strchr(line, ' '), name[sizeof(line) + 32];

		if (!space)
			continue;
		*space = '\0';
		snprintf(name, sizeof(name), "%s%s", prefix, line);
		collect(set, name, strtod(space + 1, NULL));
	}
}

/* The environment of a program, in the place of this one's. */
static void set_environment(const struct bench *b, const char *env)
{
	char text[32];

	unsetenv("SHUNT_WRITE");
	unsetenv("SHUNT_POKE");
	if (env)
		(void)putenv((char *)env);
	snprintf(text, sizeof(text), "%d", b->has_two ? b->cpu[1] : -1);
	setenv("BENCH_CPU", text, 1);
	if (b->quick)
		setenv("BENCH_QUICK", "1", 1);
	snprintf(text, sizeof(text), "%.0f", bench_now());
	setenv("BENCH_START", text, 1);
}

static int start(const char *path, const char *mode, int out, pid_t *pid)
{
	extern char **environ;
	char *argv[] = {(char *)path, (char *)mode, NULL};
	posix_spawn_file_actions_t actions;
	int err = posix_spawn_file_actions_init(&actions);

	if (err)
		return err;
	err = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (!err)
		err = posix_spawn(pid, path, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return err;
}

const char *bench_program(const struct bench *b, const char *program, const char *mode,
			  const char *env, const char *prefix, struct bench_set *set)
{
	char path[4096];
	int fd[2], status = -1, err;
	pid_t pid;
	FILE *f;

	if (program[0] == '/')
		snprintf(path, sizeof(path), "%s", program);
	else
		snprintf(path, sizeof(path), "%s/%s", b->dir, program);
	if (access(path, X_OK))
		return "not built (-Dbench=enabled)";
	if (pipe(fd))
		return strerror(errno);
	set_environment(b, env);
	err = start(path, mode, fd[1], &pid);
	(void)close(fd[1]);
	f = fdopen(fd[0], "r");
	if (f && !err)
		read_samples(f, prefix, set);
	if (f)
		(void)fclose(f);
	else
		(void)close(fd[0]);
	if (err)
		return strerror(err);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? NULL : "the program failed";
}
