/* SPDX-License-Identifier: MIT */
/*
 * Programs that forbid themselves ways: the next way of writing, of poking or of core
 * sync is used; if none is left, the update says so and the program runs on as it was.
 *
 * Each row is run with the ways forbidden after start-up, or before it (the program executes itself
 * anew). Control: where the update is to work, the other ways are forbidden as well, and it
 * must fail; where it is to fail, nothing is forbidden, and it must work.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "forbid.h"
#include "hostile.h"
#include "site_threads.h"
#include <shunt/inspect.h>
#include <shunt/static_key.h>

#define UPDATES 100

struct fallback {
	const char *name;
	unsigned what;
	bool at_start;
	bool reports[NR_WAYS]; /* no way is left under that policy */
	const char *sync;      /* that must have been used; NULL: any */
};

DECLARE_STATIC_KEY_FALSE(hostile_key); /* site.c */

#define ALL_WAYS                             \
	{                                    \
		true, true, true, true, true \
	}

static const struct fallback fallbacks[] = {
	{"mdwe", FORBID_MDWE, false, {false}, "membarrier"},
	{"mdwe-at-start", FORBID_MDWE, true, {false}, "membarrier"},
	{"no-exec-protect", FORBID_PROTECT, false, {false}, "membarrier"},
	{"no-membarrier", FORBID_MEMBARRIER, false, {false}, "signals"},
	{"no-membarrier-at-start", FORBID_MEMBARRIER, true, {false}, "signals"},
	{"no-open", FORBID_OPEN, false, {false}, NULL},
	{"no-pwrite", FORBID_PWRITE, false, {false}, NULL},
	{"no-pwrite-at-start", FORBID_PWRITE, true, {false}, NULL},
	{"no-mremap", FORBID_REMAP, false, {[REMAP] = true}, NULL},
	{"no-proc", FORBID_PROC, false, {false}, NULL},
	{"no-proc-at-start", FORBID_PROC, true, {false}, NULL},
	{"chroot", FORBID_ROOT, false, {false}, NULL},
	{"nobody", FORBID_USER, false, {false}, NULL},
	{"nobody-at-start", FORBID_USER, true, {false}, NULL},
	{"mdwe-no-membarrier", FORBID_MDWE | FORBID_MEMBARRIER, false, {false}, "signals"},
	{"nobody-chroot-mdwe-no-mremap",
	 FORBID_USER | FORBID_ROOT | FORBID_MDWE | FORBID_REMAP,
	 false,
	 {[REMAP] = true},
	 NULL},
	{"no-pwrite-no-mremap", FORBID_PWRITE | FORBID_REMAP, false, {[REMAP] = true}, NULL},
	{"no-sync", FORBID_MEMBARRIER | FORBID_SIGNALS, false, ALL_WAYS, NULL},
	{"no-sync-no-proc", FORBID_MEMBARRIER | FORBID_ROOT, false, ALL_WAYS, NULL},
	{"no-way-of-writing", FORBID_MDWE | FORBID_PWRITE | FORBID_REMAP, false, ALL_WAYS, NULL},
	{"no-exec-protect-no-pwrite-no-mremap", FORBID_PROTECT | FORBID_PWRITE | FORBID_REMAP,
	 false, ALL_WAYS, NULL},
	{"nothing", FORBID_ALL | FORBID_MDWE | FORBID_USER, false, ALL_WAYS, NULL},
};

static const struct fallback *find(const char *name)
{
	for (size_t i = 0; i < sizeof(fallbacks) / sizeof(fallbacks[0]); i++)
		if (!strcmp(fallbacks[i].name, name))
			return &fallbacks[i];
	return NULL;
}

static unsigned what_to_forbid(const struct fallback *c, enum way way, bool is_control)
{
	if (!is_control)
		return c->what;
	return c->reports[way] ? 0 : c->what | FORBID_ALL;
}

/* -------------------------------------------------------------------- the updates */

/* The text of all sites. */
struct text {
	struct {
		void *addr;
		unsigned char bytes[8];
	} at[64];
	size_t n;
};

static int take_site(const struct shunt_site_info *site, void *arg)
{
	struct text *t = arg;

	t->at[t->n].addr = site->addr;
	memcpy(t->at[t->n++].bytes, site->addr, site->len);
	return t->n == 64;
}

static bool is_as_before(const struct text *t)
{
	struct text now = {0};

	(void)shunt_for_each_site(NULL, take_site, &now);
	return now.n == t->n && !memcmp(&now, t, sizeof(now));
}

/*
 * Of a program that is started so the calls' sites may not be known: updates of them then work by
 * their trampolines, whatever is forbidden. Those of a branch do not.
 */
static int switch_branch(void)
{
	return static_key_count(&hostile_key) ? static_branch_disable(&hostile_key)
					      : static_branch_enable(&hostile_key);
}

/*
 * A flip is written by pwrite(). Without it the update goes as those of other sites do; if that was
 * by mprotect(), the next one is a flip by mprotect().
 */
static bool has_no_pwrite(const struct fallback *c)
{
	/* Where sites trap a call has been changed by mprotect() before. */
	return c->what & FORBID_PWRITE || (!CPU_HAS_TRAPS && c->at_start && c->what & FORBID_PROC);
}

static void must_work_without_pwrite(struct row *r)
{
	int ret = try_update();

	MUST(r, ret == -EPROTO || (!ret && times_provoked(r)));
}

static void must_work(struct row *r, const struct fallback *c)
{
	if (c->at_start && r->way != FLIP)
		MUST(r, !switch_branch());
	if (r->way == FLIP && has_no_pwrite(c))
		must_work_without_pwrite(r);
	else
		update(r);
	go_through(r);
}

static void must_say_so(struct row *r, int ret)
{
	char what[160];

	if ((ret == -EPERM || ret == -ENOSYS) && shunt_last_error()[0])
		return;
	(void)snprintf(what, sizeof(what), "update: %d, %s", ret, shunt_last_error());
	failed(r, what);
}

/* Nothing may change, and the message must say something. */
static void must_report(struct row *r)
{
	struct text before = {0};
	int was = try_site();

	(void)shunt_for_each_site(NULL, take_site, &before);
	MUST(r, before.n >= 1);
	must_say_so(r, try_update());
	MUST(r, is_as_before(&before));
	MUST(r, try_site() == was);
}

static void row_fallback(struct row *r)
{
	static struct site_threads others;
	const struct fallback *c = find(r->name);
	unsigned what = what_to_forbid(c, r->way, r->is_control);
	const char *why = c->at_start ? getenv("HOSTILE_CANNOT") : forbid(what);
	struct shunt_ways ways;

	if (why)
		skip_row(r, why);
	why = still_open(c->at_start ? what & ~(unsigned)FORBID_OPEN : what);
	if (why)
		failed(r, why);
	site_threads_start(&others, r);
	while (more(r)) {
		if (c->reports[r->way])
			must_report(r);
		else
			must_work(r, c);
		provoked(r, 1);
	}
	site_threads_end(&others);
	shunt_get_ways(&ways);
	if ((r->way == INT3 || r->way == REMAP) && !c->reports[r->way] && !r->is_control &&
	    !(c->at_start && c->what & FORBID_PROC))
		MUST(r, !strcmp(ways.poke, way_name(r))); /* none by a trampoline */
	if (c->sync && !r->is_control)
		MUST(r, !strcmp(ways.sync, c->sync));
}

/* ---------------------------------------------------------------------- at start */

/* Shut what the row is about, and begin anew. */
static void start_forbidden(int argc, char **argv, const struct fallback *c)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	bool is_control = argc > 3 && !strcmp(argv[argc - 1], "--control");
	enum way way = !strcmp(argv[2], "remap") ? REMAP : !strcmp(argv[2], "flip") ? FLIP : AUTO;
	const char *why;

	(void)setenv("HOSTILE_SHUT", "1", 1);
	(void)setenv("SHUNT_POKE", strcmp(argv[2], "flip") ? argv[2] : "auto",
		     1); /* or it would begin anew again, without /proc */
	(void)setenv("SHUNT_LOG", "0", 1);
	why = forbid(what_to_forbid(c, way, is_control) & ~(unsigned)FORBID_OPEN);
	if (why)
		(void)setenv("HOSTILE_CANNOT", why, 1);
	(void)fexecve(fd, argv, environ);
	abort();
}

#define ROW(n, t)                                                                                \
	{                                                                                        \
		.name = n, .title = t, .unit = "updates", .run = row_fallback, .times = UPDATES, \
		.flip = true, .control = "the rest forbidden as well, or nothing"                \
	}

static struct row rows[] = {
	ROW("mdwe", "sets PR_SET_MDWE"),
	ROW("mdwe-at-start", "is started under PR_SET_MDWE"),
	ROW("no-exec-protect", "forbids mprotect() to executable"),
	ROW("no-membarrier", "forbids membarrier()"),
	ROW("no-membarrier-at-start", "is started without membarrier()"),
	ROW("no-open", "forbids to open files"),
	ROW("no-pwrite", "forbids writes to /proc/self/mem"),
	ROW("no-pwrite-at-start", "is started without writes to /proc/self/mem"),
	ROW("no-mremap", "forbids mremap()"),
	ROW("no-proc", "loses /proc"),
	ROW("no-proc-at-start", "is started without /proc"),
	ROW("chroot", "runs in an empty chroot"),
	ROW("nobody", "becomes nobody, without capabilities"),
	ROW("nobody-at-start", "is started as nobody"),
	ROW("mdwe-no-membarrier", "sets PR_SET_MDWE, forbids membarrier()"),
	ROW("nobody-chroot-mdwe-no-mremap", "nobody in an empty chroot, PR_SET_MDWE, no mremap()"),
	ROW("no-pwrite-no-mremap", "forbids pwrite() and mremap()"),
	ROW("no-sync", "forbids membarrier() and signals to threads"),
	ROW("no-sync-no-proc", "forbids membarrier(), and has no /proc"),
	ROW("no-way-of-writing", "PR_SET_MDWE, no pwrite(), no mremap()"),
	ROW("no-exec-protect-no-pwrite-no-mremap",
	    "forbids mprotect() to executable, pwrite() and mremap()"),
	ROW("nothing", "forbids all of it"),
	{0},
};

int main(int argc, char **argv)
{
	const struct fallback *c = argc > 2 ? find(argv[1]) : NULL;

	if (c && c->at_start && !getenv("HOSTILE_SHUT"))
		start_forbidden(argc, argv, c);
	return hostile_main(argc, argv, rows);
}
