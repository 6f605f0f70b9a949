/* SPDX-License-Identifier: MIT */
/* Filters on this thread and those that it starts, or on all: one system call is not made. */
#ifndef SHUNT_TESTS_FILTER_H
#define SHUNT_TESTS_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* System call @nr comes to @action, SECCOMP_RET_...; @flags: SECCOMP_FILTER_FLAG_... false: no
 * filter is to be had. */
static inline bool filter_syscall(long nr, unsigned action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* Of a system call that tests filter by its name; -1: it is none of them. */
static inline long filter_number(const char *name)
{
	static const struct {
		const char *name;
		long number;
	} known[] = {
		{"accept4", SYS_accept4},   {"bind", SYS_bind},
		{"clone3", SYS_clone3},     {"clock_nanosleep", SYS_clock_nanosleep},
		{"eventfd2", SYS_eventfd2}, {"pipe2", SYS_pipe2},
		{"mmap", SYS_mmap},         {"openat", SYS_openat},
		{"recvmsg", SYS_recvmsg},   {"sendto", SYS_sendto},
		{"socket", SYS_socket},
#ifdef SYS_poll
		{"poll", SYS_poll},
#else
		{"poll", SYS_ppoll},
#endif
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(name, known[i].name))
			return known[i].number;
	return -1;
}

/* System call @nr gives @error; 0: it succeeds, with nothing done. */
static inline bool answer_syscall(long nr, int error)
{
	return filter_syscall(nr, SECCOMP_RET_ERRNO | (unsigned)error, 0);
}

#endif
