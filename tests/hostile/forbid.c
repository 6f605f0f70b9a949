/* SPDX-License-Identifier: MIT */
/* What a process forbids itself: see forbid.h. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "forbid.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

/* A system call that is refused, if one of @bits is set in argument @arg (bits 0: always). */
struct rule {
	unsigned what;
	unsigned nr, arg, bits;
	unsigned error;
};

static const struct rule rules[] = {
	{FORBID_PROTECT, SYS_mprotect, 2, PROT_EXEC, EPERM},
	{FORBID_PROTECT, SYS_pkey_mprotect, 2, PROT_EXEC, EPERM},
	{FORBID_MEMBARRIER, SYS_membarrier, 0, 0, EPERM},
#ifdef SYS_open
	{FORBID_OPEN, SYS_open, 0, 0, EPERM},
#endif
	{FORBID_OPEN, SYS_openat, 0, 0, EPERM},
	{FORBID_OPEN, SYS_openat2, 0, 0, EPERM},
	{FORBID_PWRITE, SYS_pwrite64, 0, 0, EPERM},
	{FORBID_REMAP, SYS_mremap, 0, 0, EPERM},
	{FORBID_SIGNALS, SYS_rt_tgsigqueueinfo, 0, 0, EPERM},
	{FORBID_MAP, SYS_mmap, 0, 0, ENOMEM},
	{FORBID_MEMORY, SYS_mremap, 0, 0, ENOMEM},
};
#define RULES (sizeof(rules) / sizeof(rules[0]))

static unsigned short one_rule(struct sock_filter *f, const struct rule *r)
{
	unsigned short n = 0;

	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      offsetof(struct seccomp_data, nr));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, r->bits ? 3 : 1);
	if (r->bits) {
		f[n++] = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS,
			(unsigned)offsetof(struct seccomp_data, args) + 8 * r->arg);
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, r->bits, 0, 1);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | r->error);
	return n;
}

static int filter(unsigned what)
{
	struct sock_filter f[5 * RULES + 1];
	struct sock_fprog program = {0, f};

	for (size_t i = 0; i < RULES; i++)
		if (what & rules[i].what)
			program.len += one_rule(f + program.len, &rules[i]);
	if (!program.len)
		return 0;
	f[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int cover_proc(void)
{
	return unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount("none", "/proc", "tmpfs", 0, NULL);
}

/*
 * Into a directory that is not there any more; which everybody may look into, or what is asked of
 * /proc as another user would be no "there is none".
 */
static int change_root(void)
{
	char path[] = "/tmp/hostile-root-XXXXXX";

	return !mkdtemp(path) || chmod(path, 0755) || chdir(path) || rmdir(path) || chroot(".");
}

static int change_user(void)
{
	return setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	       setresuid(NOBODY, NOBODY, NOBODY);
}

const char *forbid(unsigned what)
{
	if ((what & FORBID_PROC) && cover_proc())
		return "nothing can be mounted here";
	if ((what & FORBID_ROOT) && change_root())
		return "chroot() is not allowed here";
	if ((what & FORBID_USER) && change_user())
		return "the user cannot be changed here";
	if ((what & FORBID_MDWE) && prctl(PR_SET_MDWE, 1, 0, 0, 0))
		return "this kernel has no PR_SET_MDWE";
	if (filter(what))
		return "no seccomp filter here";
	return NULL;
}

/* ------------------------------------------------------------------- still open */

static int becomes_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret = p == MAP_FAILED ? -1 : mprotect(p, 4096, PROT_READ | PROT_EXEC);

	if (p != MAP_FAILED)
		(void)munmap(p, 4096);
	return ret == 0;
}

static int can_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

const char *still_open(unsigned what)
{
	if ((what & (FORBID_MDWE | FORBID_PROTECT)) && becomes_executable())
		return "memory can be made executable";
	if ((what & (FORBID_OPEN | FORBID_PROC | FORBID_ROOT)) && can_open("/proc/self/mem"))
		return "/proc/self/mem can be opened";
	if ((what & FORBID_MEMBARRIER) && syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) >= 0)
		return "there is membarrier()";
	if ((what & FORBID_USER) && (!getuid() || !setuid(0)))
		return "it is root";
	if ((what & (FORBID_REMAP | FORBID_MEMORY)) && (mremap(NULL, 0, 0, 0), errno == EINVAL))
		return "there is mremap()";
	if ((what & FORBID_MAP) &&
	    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		return "there is mmap()";
	return NULL;
}
