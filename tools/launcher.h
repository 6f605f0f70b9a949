/* SPDX-License-Identifier: MIT */
/*
 * A thread that another process is made to have for a while: it makes the calls that it is told to.
 * Where it has to wait for a lock it waits, as any other thread of the process, and holds nobody
 * up: none is stopped meanwhile.
 *
 * Functions return 0, or -errno with words in @why: -ETIMEDOUT; -EINTR a signal waits that is to
 * end this program; -ESRCH it, or the process, is gone.
 */
#ifndef SHUNT_TOOLS_LAUNCHER_H
#define SHUNT_TOOLS_LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "remote_elf.h"
#include "tracee.h"

#define LAUNCHER_THREAD_NAME "shunt-attach"

enum { LAUNCHER_TEXT = 4096 }; /* bytes for strings */

/* Functions of the process. */
struct launcher_calls {
	uint64_t create; /* pthread_create() */
	uint64_t init, stack_size,
		detach; /* pthread_attr_init(), _setstacksize(), _setdetachstate() */
	uint64_t unmap; /* munmap() */
};

struct launcher {
	const struct remote_space *space;
	uint64_t base; /* what is mapped for it; 0: there is none */
	uint64_t text; /* LAUNCHER_TEXT bytes */
	uint32_t command;
	pid_t tid;
	bool is_deaf; /* what is called now is waited for, whoever wants this program to end */
	char why[600];
};

/* A launcher of the process, of whomever; 0: there is none. */
pid_t launcher_find(pid_t pid);

/*
 * Have the held thread create it; behind tracee_map(). Within @limit_ms, as tracee_call(). Where it
 * fails there is none.
 */
int launcher_start(struct launcher *launcher, struct tracee *t, const struct launcher_calls *calls,
		   unsigned limit_ms);

/* Call @function there. Behind an error nothing but launcher_leave() may follow. */
int launcher_call(struct launcher *launcher, uint64_t function, const uint64_t arguments[6],
		  unsigned limit_ms, uint64_t *result);
/* A system call of up to five arguments; what it returns, -errno too, goes to @result. */
int launcher_call_kernel(struct launcher *launcher, long number, const uint64_t arguments[5],
			 unsigned limit_ms, int64_t *result);

/*
 * It ends, and what is mapped for it goes: by itself, when what it was last told to do has been
 * done. That is waited for, but for where it was not.
 */
void launcher_leave(struct launcher *launcher);

#endif
