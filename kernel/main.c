/* SPDX-License-Identifier: MIT */
/*
 * The kernel's main(): everything is set up in order, then the self-test and the tests
 * that the command line names are run.
 *
 *	cpus=N		how many CPUs to start
 *	cet		with supervisor shadow stacks
 *	mce		a debugger injects machine checks where we ask for them
 *	noselftest	leave out the self-test, which runs the trap path of every kind of site
 *	selftest	let it say all that it checks
 *	<test>		run it (KERNEL_TEST() in the tests' files); its own words go with it
 */
#include "cet.h"
#include "ftrace.h"
#include "kernel.h"
#include "machine_check.h"
#include "port.h"
#include "smp.h"
#include "test/selftest.h"
#include "trap.h"

extern const struct kernel_test __start_tests[], __stop_tests[];

/* What a multiboot loader hands over, as far as we look at it. */
struct multiboot {
	uint32_t flags; /* bit 2: cmdline */
	uint32_t reserved[3];
	uint32_t cmdline;
};

static void run_tests(void)
{
	for (const struct kernel_test *t = __start_tests; t < __stop_tests; t++) {
		if (!cmdline_has(t->name))
			continue;
		print("# %s on %u CPUs\n", t->name, nr_cpus);
		t->run();
	}
}

/* Every CPU says whether it has a shadow stack. */
static void count_cpu(void *count)
{
	if (read_ssp())
		++*(_Atomic unsigned *)count;
}

static void check_shadow_stacks(void)
{
	_Atomic unsigned count = 0;

	smp_run(count_cpu, &count);
	ok(count == nr_cpus, "%u of %u CPUs with a shadow stack", count, nr_cpus);
}

static unsigned wanted_cpus(void)
{
	unsigned long n = cmdline_number("cpus", 1);

	return n < 1 ? 1 : n > MAX_CPUS ? MAX_CPUS : (unsigned)n;
}

void kernel_main(const struct multiboot *info);
void kernel_main(const struct multiboot *info)
{
	uint64_t cr3;
	bool loud;

	if (info->flags & 4)
		cmdline_init((const char *)(uintptr_t)info->cmdline);
	trap_init();
	cpu_init(&cpus[0]);
	cr3 = paging_init();
	apic_init();
	trap_set(VEC_SYNC, core_sync_interrupt);
	ftrace_init();
	if (cet_wanted()) {
		cet_prepare(&cpus[0]);
		cet_enable();
	}
	irq_enable();
	mce_init();
	smp_init(wanted_cpus(), cr3);
	sites_init();
	if (cet_wanted())
		check_shadow_stacks();
	loud = cmdline_has("selftest");
	if (!cmdline_has("noselftest"))
		selftest(!loud);
	run_tests();
	/* A test that is misspelt must not pass. */
	if (cmdline_unknown())
		ok(false, "nobody knows the word: %s", cmdline_unknown());
	tap_done();
}
