/* SPDX-License-Identifier: MIT */
/*
 * The peers of function tracing, by the program's argument: what a call costs of a function that is
 * traced by them, and, beside it, of one that reads the clock twice. Prints "call" and "clock"
 * lines; nothing where the peer is not to be had.
 *
 *	uftrace           this program, compiled with -pg -mfentry, run by `uftrace record`
 *	basic, fdr        LLVM's XRay and its two recorders (PEER_XRAY)
 *	uprobe, uretprobe the kernel's, in a perf event of this process that counts
 *	int3              an int3 at the function's entry, and a signal handler that counts
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "clock.h"

#ifdef PEER_XRAY
#define PLAIN __attribute__((xray_never_instrument))
#else
#define PLAIN __attribute__((no_instrument_function))
#endif
#define FUNCTION __attribute__((noinline, aligned(64)))

typedef uint64_t step_fn(uint64_t x);

FUNCTION static uint64_t peer_traced(uint64_t x)
{
	return x + 1;
}

FUNCTION PLAIN static uint64_t read_twice(uint64_t x)
{
	uint64_t begin = __builtin_ia32_rdtsc();
	uint64_t end;

	__asm__ volatile("" : "+r"(x));
	end = __builtin_ia32_rdtsc();
	return x + 1 + ((end - begin) >> 63);
}

/* int3; lea 1(%rdi), %rax; ret: the handler has only to count. */
__asm__(".text\n"
	".balign 64\n"
	"peer_int3: int3\n"
	"lea 1(%rdi), %rax\n"
	"ret\n"
	".previous\n");
extern uint64_t peer_int3(uint64_t x) __attribute__((visibility("hidden")));

/* ------------------------------------------------------------------- measuring */

enum { ROUNDS = 21, QUICK = 7 };

PLAIN static double thread_time(void)
{
	struct timespec ts = {0, 0};

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

PLAIN static void sample(const char *name, step_fn *volatile f, uint64_t calls)
{
	uint64_t x = 0;
	double start;

	for (uint64_t i = 0; i < calls / 10; i++)
		x = f(x);
	start = thread_time();
	for (uint64_t i = 0; i < calls; i++)
		x = f(x);
	printf("%s %f\n", name, (thread_time() - start) / (double)calls);
	if (x != calls + calls / 10)
		exit(1);
}

PLAIN static void measure(step_fn *traced, uint64_t calls)
{
	for (int round = 0; round < (getenv("BENCH_QUICK") ? QUICK : ROUNDS); round++) {
		sample("clock", read_twice, calls);
		sample("call", traced, calls);
	}
	fflush(stdout);
}

/* ----------------------------------------------------- what writes files: in a folder of its own
 */

static char folder[] = "/tmp/shunt-bench-XXXXXX";

PLAIN static int remove_folder(void)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		execlp("rm", "rm", "-rf", folder, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) != pid || status;
}

PLAIN static int run_and_clean(char *const argv[])
{
	pid_t pid;
	int status = 0;

	if (!mkdtemp(folder))
		return 1;
	pid = fork();
	if (!pid) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (chdir(folder) || dup2(null, STDERR_FILENO) < 0)
			_exit(127);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		status = -1;
	return remove_folder() || status;
}

PLAIN static const char *own_path(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	return n > 0 ? path : "";
}

#ifdef PEER_XRAY

/* As <xray/xray_log_interface.h>, which is C++, declares them. */
int __xray_log_select_mode(const char *mode);
int __xray_log_init_mode(const char *mode, const char *config);
int __xray_log_finalize(void);
int __xray_patch(void);

PLAIN static int record(const char *mode)
{
	static const char all[] = "func_duration_threshold_us=0:no_file_flush=true:"
				  "buffer_max=64:grace_period_ms=1";

	if (__xray_log_select_mode(mode) || __xray_log_init_mode(mode, all) != 2 ||
	    __xray_patch() != 1)
		return 1;
	measure(peer_traced, 100000);
	(void)__xray_log_finalize();
	return 0;
}

PLAIN int main(int argc, char **argv)
{
	char *again[] = {(char *)(uintptr_t)own_path(), argc > 1 ? argv[1] : NULL, "in folder",
			 NULL};

	if (argc > 2)
		return record(!strcmp(argv[1], "fdr") ? "xray-fdr" : "xray-basic");
	return argc == 2 ? run_and_clean(again) : 2;
}

#else

/* --------------------------------------------------------------------- uprobes */

/* The offset in the file of @address of this program. */
PLAIN static int find_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint64_t *address = arg;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD &&
		    *address - info->dlpi_addr - ph->p_vaddr < ph->p_memsz) {
			*address += ph->p_offset - info->dlpi_addr - ph->p_vaddr;
			return 1;
		}
	}
	return 0;
}

PLAIN static long read_type(void)
{
	FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	char line[32] = "";

	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		(void)fclose(f);
	return line[0] ? strtol(line, NULL, 10) : -1;
}

PLAIN static int uprobe(bool is_return)
{
	struct perf_event_attr attr = {.size = sizeof(attr), .config = is_return};
	uint64_t offset = (uint64_t)peer_traced, count = 0;
	long type = read_type();
	int fd;

	if (type < 0 || !dl_iterate_phdr(find_offset, &offset))
		return 0;
	attr.type = (uint32_t)type;
	attr.uprobe_path = (uint64_t)own_path();
	attr.probe_offset = offset;
	fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return 0;
	measure(peer_traced, 5000);
	return read(fd, &count, sizeof(count)) != sizeof(count) || count < 5000;
}

/* ------------------------------------------------------------------------ int3 */

static uint64_t traps;

PLAIN static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context; /* rip is behind the int3: the function goes on */
	traps++;
}

PLAIN static int int3(void)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

	if (sigaction(SIGTRAP, &action, NULL))
		return 1;
	measure(peer_int3, 5000);
	return traps < 5000;
}

/* --------------------------------------------------------------------- uftrace */

PLAIN static int uftrace(void)
{
	char *argv[] = {"uftrace",
			"record",
			"--no-event",
			"--no-libcall",
			"-d",
			"data",
			(char *)(uintptr_t)own_path(),
			"record",
			NULL};

	return run_and_clean(argv);
}

PLAIN int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "record")) {
		measure(peer_traced, 100000);
		return 0;
	}
	if (!strcmp(mode, "uftrace"))
		return uftrace();
	if (!strcmp(mode, "int3"))
		return int3();
	return uprobe(!strcmp(mode, "uretprobe"));
}

#endif
