/* SPDX-License-Identifier: MIT */
/*
 * Filters that refuse what /proc/self/maps is asked by, or answer for it: PROCMAP_QUERY (as kernels
 * before 6.11 do), pread(), read(). Updates work, by the next call there is; where none is left
 * they fail with what has failed, by its name, and nothing has changed: not that no mapping is
 * there, which is said of memory that is not. Controls: what is not known is taken for "none is
 * there"; and the mutants maps-no-read, maps-read-leaves, area-query-believed (tests/mutation).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/filter.h"
#include "../common/idle_thread.h"
#include "../common/one_two.h"
#include "linux/base/base.h"
#include "linux/text/area.h"
#include "linux/text/proc_maps.h"

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

KEEP static int site(void)
{
	return static_call(call)() + (static_branch_unlikely(&key) ? 10 : 0);
}

static bool takes_for_none; /* the control */
static unsigned listings, not_known;

int __real_shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line);
int __wrap_shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line);

int __wrap_shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line)
{
	int ret = __real_shunt_maps_find(addr, line);

	listings += !ret;
	not_known += ret && ret != -EFAULT;
	if (!ret || !takes_for_none)
		return ret;
	shunt_failed_call = "no mapping is there";
	return -EFAULT;
}

#define NONE (-1)

static const struct row {
	const char *name;
	struct {
		long nr;
		int error; /* 0: it seems to be done */
	} refused[4];
	enum { BY_READING, BY_TRIAL, FAILS } how;
	const char *why; /* of one that fails */
} rows[] = {
	{"no query", {{SYS_ioctl, ENOTTY}, {NONE, 0}}, BY_READING, NULL},
	{"a query that finds nothing", {{SYS_ioctl, ENOENT}, {NONE, 0}}, BY_READING, NULL},
	{"no pread()", {{SYS_ioctl, ENOTTY}, {SYS_pread64, EPERM}, {NONE, 0}}, BY_READING, NULL},
	{"pread() gives EFAULT",
	 {{SYS_ioctl, EPERM}, {SYS_pread64, EFAULT}, {NONE, 0}},
	 BY_READING,
	 NULL},
	{"pread() gives nothing",
	 {{SYS_ioctl, EPERM}, {SYS_pread64, 0}, {NONE, 0}},
	 BY_READING,
	 NULL},
	{"no pread(), no read()",
	 {{SYS_ioctl, ENOTTY}, {SYS_pread64, EPERM}, {SYS_read, EPERM}, {NONE, 0}},
	 BY_TRIAL,
	 NULL},
	{"pread() gives EFAULT, and read()",
	 {{SYS_ioctl, ENOTTY}, {SYS_pread64, EFAULT}, {SYS_read, EFAULT}, {NONE, 0}},
	 BY_TRIAL,
	 NULL},
	{"pread() gives nothing, and read()",
	 {{SYS_ioctl, ENOTTY}, {SYS_pread64, 0}, {SYS_read, 0}, {NONE, 0}},
	 BY_TRIAL,
	 NULL},
	{"no pread(), no read(), no trial",
	 {{SYS_ioctl, ENOTTY}, {SYS_pread64, EPERM}, {SYS_read, EPERM}, {SYS_mremap, EPERM}},
	 FAILS,
	 "pread64(/proc/self/maps)"},
	{"pread() gives EFAULT, and read(), no trial",
	 {{SYS_ioctl, ENOTTY}, {SYS_pread64, EFAULT}, {SYS_read, EFAULT}, {SYS_mremap, EPERM}},
	 FAILS,
	 "pread64(/proc/self/maps)"},
	{"pread() gives nothing, and read(), no trial",
	 {{SYS_ioctl, ENOTTY}, {SYS_pread64, 0}, {SYS_read, 0}, {SYS_mremap, EPERM}},
	 FAILS,
	 "does not list mappings"},
};

static const struct row *row;
static enum shunt_poke_policy policy;
static bool is_late; /* the filter: behind the first update */

static int switch_both(int (*to)(void), bool on)
{
	int ret = static_call_update(call, to);

	return ret ? ret : on ? static_branch_enable(&key) : static_branch_disable(&key);
}

static bool filter(void)
{
	for (size_t i = 0; i < 4 && row->refused[i].nr != NONE; i++)
		if (!answer_syscall(row->refused[i].nr, row->refused[i].error))
			return false;
	return true;
}

enum { GOOD, FAILED, WRONG, NOT_READ, UNNAMED, NO_CAUSE, LOST, NO_FILTER };

static int look(const void *addr)
{
	struct shunt_area area;
	int ret = shunt_port_lock();

	if (ret)
		return 1;
	ret = shunt_area_find((uintptr_t)addr, &area);
	shunt_port_unlock();
	return ret;
}

/* Nothing has changed, and why is told. */
static int expect_failure(void)
{
	int ret = switch_both(two, true);

	if (!ret || site() != 1)
		return WRONG;
	ret = look(&site);
	if (!ret || ret == -EFAULT || strstr(shunt_last_error(), "no mapping is there"))
		return NO_CAUSE;
	return strstr(shunt_last_error(), row->why) ? GOOD : UNNAMED;
}

static int act(void)
{
	pthread_t thread;
	int maps, ret = 0;

	if (shunt_set_poke(policy) || pthread_create(&thread, NULL, idle, NULL) ||
	    (is_late && (switch_both(two, true) || switch_both(one, false))) || !filter())
		return NO_FILTER;
	maps = shunt_process()->maps_fd;
	if (row->how == FAILS)
		return expect_failure();
	for (int i = 0; i < 6; i++) {
		ret = switch_both(i % 2 ? one : two, i % 2 == 0);
		if (ret)
			return strstr(shunt_last_error(), "no mapping is there") ? NO_CAUSE
										 : FAILED;
		if (site() != (i % 2 ? 1 : 12))
			return WRONG;
	}
	/* The descriptor is the one that it was, but for one that gives nothing. */
	if (maps != shunt_process()->maps_fd && (row->how == BY_READING || row->refused[1].error))
		return LOST;
	return (row->how == BY_READING ? listings && !not_known : not_known) ? GOOD : NOT_READ;
}

/* What is not there is said to be, by the list and by the query. */
static int act_on_nothing(void)
{
	char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || look(p) || munmap(p, 4096) || !filter() || look(&site))
		return NO_FILTER;
	if (look(p) != -EFAULT)
		return row->how == BY_READING ? WRONG : GOOD;
	return row->how == BY_READING && !strcmp(shunt_failed_call, "no mapping is there")
		       ? GOOD
		       : UNNAMED;
}

static int status_of(const struct row *r, bool late)
{
	row = r;
	is_late = late;
	return in_child(act);
}

static void test_rows(const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (int late = 0; late < 2; late++) {
			int status;

			status = status_of(&rows[i], late);
			ok(status == GOOD, "%s, %s, %s: %d", rows[i].name, name,
			   late ? "later" : "at first", status);
		}
}

int main(void)
{
	static const char *const names[] = {"auto", "int3", "remap", "atomic"};
	int status;

	shunt_set_log(NULL, NULL);
	for (int p = SHUNT_POKE_AUTO; p <= SHUNT_POKE_ATOMIC; p++) {
		policy = (enum shunt_poke_policy)p;
		test_rows(names[p]);
	}
	policy = SHUNT_POKE_AUTO;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		row = &rows[i];
		if (row->how == FAILS)
			continue;
		status = in_child(act_on_nothing);
		ok(status == GOOD, "%s, of what is not there: %d", rows[i].name, status);
	}
	takes_for_none = true;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].how != BY_READING) {
			status = status_of(&rows[i], true);
			ok(status == NO_CAUSE, "control: %s, which is taken for none: %d",
			   rows[i].name, status);
		}
	return tap_done();
}
