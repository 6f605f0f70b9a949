/* SPDX-License-Identifier: MIT */
/*
 * Programs that have made no update yet, with one thread, when they take away what a first
 * update would look up: their root directory, /proc, the right to open files, or to open
 * /proc/self/mem. What remapping needs was kept when the program registered, so auto does
 * not fall to int3.
 *
 * Control: what was kept is forgotten first. By int3 and flip, which need none of it while
 * mprotect() may be used, only the rows with PR_SET_MDWE have one.
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/text/mapping.h"

#include "forbid.h"
#include "hostile.h"
#include "site_threads.h"

#define UPDATES 100

struct later {
	const char *name;
	unsigned what;
	bool undumpable; /* PR_SET_DUMPABLE 0: /proc/self/mem is root's */
	bool forks;      /* the child does all of it */
	bool closes;     /* all descriptors: nothing is left but int3 */
};

static const struct later laters[] = {
	{.name = "later-chroot", .what = FORBID_ROOT},
	{.name = "later-no-proc", .what = FORBID_PROC},
	{.name = "later-no-open", .what = FORBID_OPEN},
	{.name = "later-no-open-mdwe", .what = FORBID_OPEN | FORBID_MDWE},
	{.name = "later-undumpable-mdwe", .what = FORBID_USER | FORBID_MDWE, .undumpable = true},
	{.name = "later-nobody-chroot", .what = FORBID_USER | FORBID_ROOT},
	{.name = "later-fork-chroot", .what = FORBID_USER | FORBID_ROOT, .forks = true},
	{.name = "later-fork-chroot-mdwe",
	 .what = FORBID_USER | FORBID_ROOT | FORBID_MDWE,
	 .forks = true},
	{.name = "later-closed", .what = FORBID_ROOT, .closes = true},
};

static const struct later *find(const char *name)
{
	for (size_t i = 0; i < sizeof(laters) / sizeof(laters[0]); i++)
		if (!strcmp(laters[i].name, name))
			return &laters[i];
	return NULL;
}

/* As if registration had kept nothing. */
static void forget(void)
{
	struct shunt_process *process = shunt_process();

	shunt_mappings_forget((struct shunt_range){1, UINTPTR_MAX});
	if (process->mem_fd)
		(void)close(process->mem_fd - 1);
	if (process->maps_fd)
		(void)close(process->maps_fd - 1);
	process->mem_fd = process->maps_fd = 0;
}

/*
 * What was kept is gone: remap must fail and say why, auto must come to int3. So does a first
 * flip, which has nothing to write by but mprotect(); those behind it are flips.
 */
static void one_without(struct row *r)
{
	int ret;

	if (r->way == REMAP) {
		ret = try_update();
		MUST(r, ret == -ENOSYS && strstr(shunt_last_error(), "/proc/self/maps"));
	} else if (r->way == FLIP) {
		ret = try_update();
		MUST(r, ret == -EPROTO || (!ret && times_provoked(r)));
	} else {
		update(r);
	}
}

static void live(struct row *r, const struct later *l)
{
	const char *wanted = l->closes       ? (CPU_HAS_TRAPS ? "int3" : "atomic")
			     : CPU_HAS_TRAPS ? "remap"
					     : "flip";
	static struct site_threads others;
	struct shunt_ways ways;

	site_threads_start(&others, r);
	while (more(r)) {
		if (l->closes)
			one_without(r);
		else
			update(r);
		go_through(r);
		provoked(r, 1);
	}
	site_threads_end(&others);
	shunt_get_ways(&ways);
	if (r->way == AUTO && strcmp(ways.poke, wanted) != 0)
		failed(r, ways.why ? ways.why : ways.poke);
}

static void take_away(struct row *r, const struct later *l)
{
	const char *why;

	if (r->is_control && !l->closes)
		forget();
	if (l->closes && !r->is_control)
		MUST(r, !close_range(3, ~0u, 0));
	why = forbid(l->what);
	if (why)
		skip_row(r, why);
	if (l->undumpable)
		MUST(r, !prctl(PR_SET_DUMPABLE, 0));
	why = still_open(l->what | (l->undumpable ? FORBID_OPEN : 0));
	if (why)
		failed(r, why);
}

static void row_later(struct row *r)
{
	const struct later *l = find(r->name);
	int status = 0;
	pid_t child = l->forks ? fork() : 0;

	if (!child) {
		take_away(r, l);
		live(r, l);
		if (l->forks)
			_exit(0);
		return;
	}
	MUST(r, waitpid(child, &status, 0) == child && !status);
}

#define ROW(n, t, by_int3)                                                                    \
	{                                                                                     \
		.name = n, .title = t, .unit = "updates", .run = row_later, .times = UPDATES, \
		.int3 = by_int3, .flip = true, .control_not_flip = by_int3 == EITHER,         \
		.control = "nothing is kept at start"                                         \
	}

static struct row rows[] = {
	ROW("later-chroot", "enters an empty chroot before its first update", EITHER),
	ROW("later-no-proc", "loses /proc before its first update", EITHER),
	ROW("later-no-open", "forbids to open files before its first update", EITHER),
	ROW("later-no-open-mdwe", "the same, and PR_SET_MDWE", HOLDS),
	ROW("later-undumpable-mdwe",
	    "is nobody, not dumpable, PR_SET_MDWE, before its first update", HOLDS),
	ROW("later-nobody-chroot", "is nobody in an empty chroot before its first update", EITHER),
	ROW("later-fork-chroot", "the same in a child", EITHER),
	ROW("later-fork-chroot-mdwe", "the same, and PR_SET_MDWE", HOLDS),
	{.name = "later-closed",
	 .title = "closes all descriptors, then enters an empty chroot",
	 .unit = "updates that fall to int3, or fail",
	 .run = row_later,
	 .times = UPDATES,
	 .int3 = EITHER,
	 .flip = true,
	 .control = "they are not closed"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
