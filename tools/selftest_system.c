/* SPDX-License-Identifier: MIT */
/*
 * The self-test: what the kernel, or who started this program, allows. What can be tried is
 * tried, in a child process, as it would change this one.
 */
#include "arch/arch.h"
#include "proc_status.h"
#include "selftest_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/membarrier.h>

/*
 * Run @probe in a child, for whatever it does to the process, and tell what it says.
 */
static void report_probe(struct report *r, const char *what, const char *details,
			 bool (*probe)(void))
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(probe() ? 0 : 1);
	if (child < 0) {
		report_line(r, "-", what, "not known: fork: %s", strerror(errno));
		return;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	report_line(r, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "ok" : "MISSING", what, "%s",
		    details);
}

/* A page of this program's file, mapped as text is; NULL where that is not allowed. */
static uint8_t *map_text(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd >= 0) {
		p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		(void)close(fd);
	}
	return p == MAP_FAILED ? NULL : p;
}

static bool mem_is_writable(void)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t *text = map_text(), byte = 0xcc;

	return fd >= 0 && text && pwrite(fd, &byte, 1, (off_t)(uintptr_t)text) == 1 &&
	       *(volatile uint8_t *)text == 0xcc;
}

static bool mprotect_is_allowed(void)
{
	uint8_t *text = map_text();

	return text && !mprotect(text, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static bool remap_is_allowed(void)
{
	uint8_t *text = map_text(), *copy = map_text();

	return text && copy &&
	       mremap(copy, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, text) == text;
}

/* Of x86-64 alone. */
static void report_shadow_stack(struct report *r)
{
#ifdef SYS_arch_prctl
	enum { ARCH_SHSTK_STATUS = 0x5005, ARCH_SHSTK_SHSTK = 1 };
	unsigned long features = 0;

	if (syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &features))
		report_line(r, "-", "user shadow stack", "not in this kernel");
	else
		report_line(r, "-", "user shadow stack",
			    features & ARCH_SHSTK_SHSTK ? "on" : "off");
#else
	(void)r;
#endif
}

/* Not missed where it is not to be had: signals serve instead. */
static void report_membarrier(struct report *r)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands < 0)
		report_line(r, "-", "membarrier", "%s; core sync by signals", strerror(errno));
	else if (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)
		report_line(r, "ok", "membarrier", "PRIVATE_EXPEDITED_SYNC_CORE");
	else
		report_line(r, "-", "membarrier",
			    "the kernel has no SYNC_CORE (commands %#lx); core sync by signals",
			    (unsigned long)commands);
}

static void report_sigtrap(struct report *r)
{
	sigset_t blocked;

	if (sigprocmask(SIG_BLOCK, NULL, &blocked))
		report_line(r, "MISSING", "SIGTRAP", "mask not known: %s", strerror(errno));
	else if (sigismember(&blocked, SIGTRAP))
		report_line(r, "MISSING", "SIGTRAP", "blocked by whoever started this program");
	else
		report_line(r, "ok", "SIGTRAP", "not blocked");
}

void report_system(struct report *r)
{
	struct utsname system;
	struct proc_status status;
	bool is_known = !proc_status_read(getpid(), &status);

	if (!uname(&system))
		report_line(r, "-", "kernel", "%s %s %s, %ld CPUs", system.sysname, system.release,
			    system.machine, sysconf(_SC_NPROCESSORS_ONLN));
	report_membarrier(r);
	report_probe(r, "/proc/self/mem", "writes to text", mem_is_writable);
	report_probe(r, "mprotect", "text writable and executable", mprotect_is_allowed);
	report_probe(r, "mremap", "text over text", remap_is_allowed);
	if (SHUNT_HAS_TRAPS)
		report_sigtrap(r);
	report_shadow_stack(r);
	report_line(r, "-", "not probed", "text on huge pages; text that is sealed (mseal)");
	if (status.tracer)
		report_line(r, "MISSING", "no tracer",
			    "process %d traces this one and sees its traps first",
			    (int)status.tracer);
	else
		report_line(r, is_known ? "ok" : "-", "no tracer",
			    is_known ? "TracerPid 0" : "not known");
}
