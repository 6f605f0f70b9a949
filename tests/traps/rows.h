/* SPDX-License-Identifier: MIT */
/*
 * Rows of programs that are about SIGTRAP. Each runs in a child of its own; what it counts
 * is in memory that it shares with the parent, which judges it by that and by how it ended.
 */
#ifndef SHUNT_TESTS_TRAPS_ROWS_H
#define SHUNT_TESTS_TRAPS_ROWS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"

#define SKIPPED 77

struct row {
	const char *name;
	void (*run)(void);
	int signal;             /* that it is to die of; 0: it is to leave by status 0 */
	unsigned first, second; /* what counts->first and ->second are to be */
	bool is_control;        /* to go wrong, in whichever way */
};

struct counts {
	_Atomic unsigned first, second;
};

static struct counts *counts;

static inline int run_child(const struct row *row)
{
	pid_t child;
	int status = 0;

	counts->first = 0;
	counts->second = 0;
	child = fork();
	if (!child) {
		(void)alarm(row->is_control ? 1 : 120);
		row->run();
		_exit(0);
	}
	(void)waitpid(child, &status, 0);
	return status;
}

static inline void run_row(const struct row *row)
{
	int status = run_child(row);
	bool ended = row->signal ? WIFSIGNALED(status) && WTERMSIG(status) == row->signal
				 : WIFEXITED(status) && !WEXITSTATUS(status);
	bool good = ended && counts->first == row->first && counts->second == row->second;

	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip(row->name, "not to be had here");
	else
		(void)ok(good != row->is_control, "%s%s: %s %d, counts %u and %u",
			 row->is_control ? "control: " : "", row->name,
			 WIFSIGNALED(status) ? "killed by" : "exit",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			 counts->first, counts->second);
}

static inline int run_rows(const struct row *rows, size_t n)
{
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (counts == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < n; i++)
		run_row(&rows[i]);
	return tap_done();
}

/* In a child: leave with a status that no row wants. */
static inline void must(bool condition)
{
	if (!condition)
		_exit(1);
}

#endif
