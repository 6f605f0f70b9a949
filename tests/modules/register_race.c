/* SPDX-License-Identifier: MIT */
/*
 * A module registers while another thread updates the keys that it calls: before it has been looked
 * at, when it has been looked at and has no record, and when its sites are being poked,
 * where the update waits for the lock. Its sites follow the keys, in a plugin as it is and in a
 * baked one.
 *
 *	test_publish DIRECTORY
 *
 * Controls: the update comes, and the sites are in no record that it, or a later one, finds; and
 * the module is published early, without the lock: the update comes in the middle of that.
 */
#include "../common/child.h"
#include "../common/cpu.h"
#include "../common/thread_state.h"
#include "programs.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "linux/elf/elf.h"
#include "linux/module/image.h"

/* ---------------------------------------------------------------------- the updater */

static struct {
	_Atomic pid_t tid;
	_Atomic bool done;
	pthread_t thread;
	int ret;
} updater;

static void *update(void *arg)
{
	updater.tid = (pid_t)syscall(SYS_gettid);
	updater.ret = static_call_update(host_call, host_other);
	if (!updater.ret)
		updater.ret = static_branch_enable(&host_branch);
	updater.done = true;
	return arg;
}

static bool is_early; /* the control: a module registers without the lock */

/* It has gone through, or waits; without the lock it has nothing to wait for. */
static void start_updater(void)
{
	if (pthread_create(&updater.thread, NULL, update, NULL))
		abort();
	while (!updater.done && !(updater.tid && !is_early && thread_sleeps(updater.tid)))
		(void)sched_yield();
}

/* ---------------------------------------------------------------------- the moments */

/* int3, operands, first bytes; or all at once. */
#define POKE_STEPS (CPU_HAS_TRAPS ? 3u : 1u)

enum moment { NEVER, BEFORE_LOOK, AFTER_LOOK, WITHIN_POKE };

static enum moment moment;
static unsigned left;           /* of writes, that are still to come before the moment */
static __thread bool registers; /* this thread loads the plugin */

static void come(enum moment now)
{
	if (!registers || now != moment)
		return;
	moment = NEVER;
	start_updater();
}

int __real_shunt_image_open(struct shunt_image *image, struct shunt_file *file,
			    struct shunt_elf *elf);
int __wrap_shunt_image_open(struct shunt_image *image, struct shunt_file *file,
			    struct shunt_elf *elf);
int __wrap_shunt_image_open(struct shunt_image *image, struct shunt_file *file,
			    struct shunt_elf *elf)
{
	come(BEFORE_LOOK);
	return __real_shunt_image_open(image, file, elf);
}

int __real_shunt_port_lock(void);
int __wrap_shunt_port_lock(void);
int __real_shunt_sites_add(struct shunt_sites *sites, uintptr_t base, struct shunt_site *array,
			   uint32_t nr_sites, struct shunt_report *report);
int __wrap_shunt_sites_add(struct shunt_sites *sites, uintptr_t base, struct shunt_site *array,
			   uint32_t nr_sites, struct shunt_report *report);
int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);

/* The one that is asked first whether the module is known is not the one to fill in its record. */
static unsigned locks;

static bool is_without_lock(void)
{
	return registers && is_early;
}

int __wrap_shunt_port_lock(void)
{
	if (registers && ++locks == 2)
		come(AFTER_LOOK);
	return is_without_lock() ? 0 : __real_shunt_port_lock();
}

void __real_shunt_port_unlock(void);
void __wrap_shunt_port_unlock(void);
void __wrap_shunt_port_unlock(void)
{
	if (!is_without_lock())
		__real_shunt_port_unlock();
}

static bool is_lost; /* the control */

int __wrap_shunt_sites_add(struct shunt_sites *sites, uintptr_t base, struct shunt_site *array,
			   uint32_t nr_sites, struct shunt_report *report)
{
	if (registers && is_lost)
		return 0;
	return __real_shunt_sites_add(sites, base, array, nr_sites, report);
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	struct shunt_write own[32];

	if (!registers || moment != WITHIN_POKE || left--)
		return __real_shunt_port_text_write(writes, n);
	if (n > sizeof(own) / sizeof(own[0]))
		abort();
	/* The queue of writes is the lock's, too: without it, what is written is what was asked. */
	memcpy(own, writes, n * sizeof(own[0]));
	come(WITHIN_POKE);
	return __real_shunt_port_text_write(is_early ? own : writes, n);
}

/* ------------------------------------------------------------------------ situations */

static const char *path;

static int load(void)
{
	const struct plugin *p;
	void *handle;

	(void)alarm(60);
	registers = true;
	p = plugin_open(path, &handle);
	registers = false;
	if (!p || moment != NEVER)
		return 1;
	(void)pthread_join(updater.thread, NULL);
	if (updater.ret)
		return 2;
	if (p->host(1) != 2 * 200001 || p->host_tail(1) != 200001 || !p->host_is_on())
		return 42;
	if (static_call_update(host_call, host_default) || static_branch_disable(&host_branch))
		return 3;
	return plugin_works(p, 100000, false) && !dlclose(handle) && host_reaches(100000) ? 0 : 42;
}

enum control { NONE, LOST, EARLY };

static int run_moment(enum moment when, enum control control)
{
	pid_t pid = fork();

	if (!pid) {
		moment = when;
		is_lost = control == LOST;
		is_early = control == EARLY;
		_exit(load());
	}
	return child_status(pid);
}

int main(int argc, char **argv)
{
	static const char *const moments[] = {"", "before it is looked at",
					      "before it has a record",
					      "while its sites are poked"};
	static char name[4096];
	int status;

	if (argc != 2)
		return 2;
	shunt_set_log(NULL, NULL);
	path = name;
	for (int number = 1; number <= 3; number += 2) {
		(void)snprintf(name, sizeof(name), "%s/modules_plugin%d.so", argv[1], number);
		for (enum moment when = BEFORE_LOOK; when <= WITHIN_POKE; when++) {
			/* A baked one's sites are not poked before the first update. */
			unsigned steps = when != WITHIN_POKE ? 1 : number == 1 ? POKE_STEPS : 0;

			for (unsigned step = 0; step < steps; step++) {
				left = step;
				status = run_moment(when, NONE);
				ok(!status, "plugin%d: an update %s, %u: %d", number, moments[when],
				   step, status);
			}
		}
	}
	(void)snprintf(name, sizeof(name), "%s/modules_plugin1.so", argv[1]);
	status = run_moment(AFTER_LOOK, LOST);
	ok(status == 42, "control: its sites are in no record: %d", status);
	left = POKE_STEPS > 1; /* the operands: the last write is the same for each target */
	status = run_moment(WITHIN_POKE, EARLY);
	/* Half of one operand and half of another: where that leads goes by where things lie. */
	ok(status == 42 || status > 1000, "control: it is published without the lock: %d", status);
	return tap_done();
}
