/* SPDX-License-Identifier: MIT */
/*
 * What all of the Linux port stands on: the process, the system call that failed last, messages,
 * signal masks, memory that may not be there, files. Each is in the file that it names.
 */
#ifndef SHUNT_LINUX_BASE_H
#define SHUNT_LINUX_BASE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

#include "arch/process.h"

/*
 * State that a child made by fork(), or by a raw clone() that no atfork handler
 * sees, must not inherit: the kernel clears this page in a child (MADV_WIPEONFORK).
 */
struct shunt_process {
	union {
		_Atomic uint64_t whole; /* lock.c: both at once */
		struct {
			_Atomic uint32_t lock; /* 0, or number of the owner | waiters */
			_Atomic int32_t pid;   /* the process that it is of; 0: not known */
		};
	};
	int32_t mem_fd;             /* proc_mem.c: descriptor of /proc/self/mem + 1; 0: not open */
	int32_t maps_fd;            /* proc_maps.c: that of /proc/self/maps + 1; 0: not open */
	_Atomic int32_t memory_pid; /* the process that this memory is of: not a child of vfork();
				       0: not known */
	_Atomic uint32_t calls_lock, sets_lock; /* entry/trace_lock.c */
	_Atomic bool has_traced;                /* the same: a change of what is traced was begun */
	_Atomic uint32_t starving; /* lock.c: 1: somebody is woken too late time and again */
	_Atomic bool is_original;  /* dl_list.c: the process is no copy of another one */
	_Atomic bool is_forked;    /* the same: it is a copy that handlers of fork() have seen */
};

/* process.c: this process's page. Never NULL: without memory it is a static one. */
extern struct shunt_process *_Atomic shunt_process_page;
struct shunt_process *shunt_make_process(void);

/* Whether the process is the one that its memory is of: not a child of vfork(), whose handlers and
 * threads are its own. Async-signal-safe. */
bool shunt_is_process_of_memory(void);

/* process.c: the kernel clears it in a copy. Where it does not, lock.c sees to that. */
extern _Atomic bool shunt_process_is_wiped;

static inline struct shunt_process *shunt_process(void)
{
	/* Pairs with the exchange in shunt_make_process(). */
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	return p ? p : shunt_make_process();
}

/*
 * process.c: whether this is another process in the memory of one that has updated, a child of
 * vfork() say, which has its thread-local storage; false also where it is not known.
 * Async-signal-safe.
 */
bool shunt_is_child_in_memory(void);

/*
 * process.c: whether the process could be told: 0; or what getpid(2) was refused with, and then
 * shunt_failed_call names it. @pid, @tid: what shunt_own_pid(), shunt_own_tid() have returned.
 */
int shunt_check_pid(int32_t pid);
int shunt_check_tid(int32_t tid);

/*
 * process.c: the same as shunt_is_child_in_memory(), also where no process has updated in this
 * memory: 1 or 0; or an error as of shunt_check_pid().
 */
int shunt_look_whose_memory(void);
/* Whether that is 1. For libshunt-trace and libshunt-agent, too. */
__attribute__((visibility("default"))) bool shunt_is_in_others_memory(void);
#define SHUNT_IS_IN_OTHERS_MEMORY "called in a child of vfork(2), whose memory is its parent's"
/* The parent of this process if it has the same memory, as that of a child of vfork(); else 0. */
int32_t shunt_parent_in_memory(void);

/*
 * process.c: whether this thread holds one of the locks of tracing (entry/trace_lock.c), with which
 * it must not wait for the dynamic linker's lock of loading. Async-signal-safe.
 */
bool shunt_holds_trace_lock(void);

/* failed_call.c: the system call that failed last on this thread, for the message of the failure.
 */
extern __thread const char *shunt_failed_call __attribute__((tls_model("initial-exec")));

/* report.c: room on this thread for such a name that is made up; NULL: no memory. */
#define SHUNT_CALL_MAX 160 /* bytes */
char *shunt_call_buffer(void);

/* A message, at most, with its NUL; bytes. */
#define SHUNT_MESSAGE_MAX 512

/*
 * report.c. While it is held no line is passed on, but shunt_last_error() has it. For
 * libshunt-trace.
 */
__attribute__((visibility("default"))) void shunt_log_hold(bool hold);

/*
 * The same for this thread alone, as often as it has been begun: what fails is told otherwise, or
 * to another process. For libshunt-agent and libshunt-trace.
 */
__attribute__((visibility("default"))) void shunt_log_hold_here(bool hold);

/* report.c: pass a finished line on; also keeps it for shunt_last_error(). For libshunt-trace too.
 */
__attribute__((visibility("default"))) void shunt_message(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* report.c: @what has failed with @ret, which is returned; 0: it has not, and nothing is told. */
int shunt_tell_failure(const char *what, int ret);

/* A message of what is no failure. */
void shunt_note(const char *message);

/*
 * nesting.c: a function of the program's is about to be called with a message; false: not in so
 * many of them that are not over. With true, to be ended.
 */
struct shunt_nesting {
	uintptr_t frame; /* of the innermost */
	unsigned depth;
};
bool shunt_nesting_begin(struct shunt_nesting *before);
void shunt_nesting_end(const struct shunt_nesting *before);

/*
 * mask.c: block this thread's signals, but for those that its own instructions may raise; the
 * mask before is in @before. And put that back. 0 or -errno, where a filter refuses it.
 * Async-signal-safe.
 */
int shunt_block_signals(uint64_t *before);
void shunt_restore_signals(uint64_t mask);

/* memory.c: whether shunt_port_alloc() has given what is at @addr. Async-signal-safe. */
bool shunt_is_memory_of_libshunt(uintptr_t addr);

/* memory.c: such memory with more room, zeroed, perhaps elsewhere; NULL: there is none, @p is as it
 * was. */
void *shunt_memory_grow(void *p, size_t from, size_t to);

/* clock.c: nanoseconds since some time. Async-signal-safe. */
uint64_t shunt_clock(void);

/*
 * libc_started.c: false: the C library is not set up yet, and there is no thread-local storage. And
 * a message, which then is all that can be said. Async-signal-safe.
 */
bool shunt_libc_has_started(void);
void shunt_tell_too_early(void);

/*
 * handler.c: false: this thread is not in a signal handler. true: it may be. Costs a look
 * through its stack. Async-signal-safe.
 */
bool shunt_may_be_in_handler(void);
/* The same: 1, also of a stack that is too long to be looked through; 0; or an error, where the
 * stack cannot be looked at. */
int shunt_look_for_handler(void);

/*
 * peek.c: copy @len bytes that may not be there: false then, and where the system may refuse. And
 * a string, cut off to @size bytes with its NUL. Async-signal-safe.
 */
bool shunt_peek(void *to, const void *from, size_t len);
bool shunt_peek_string(char *to, size_t size, const char *from);

/* Addresses from @start up to, but not with, @end. */
struct shunt_range {
	uintptr_t start, end;
};

static inline bool shunt_in_range(struct shunt_range range, uintptr_t addr, size_t len)
{
	return addr - range.start < range.end - range.start && len <= range.end - addr;
}

/* A file mapped to be read; size 0: not mapped. */
struct shunt_file {
	const void *image;
	size_t size;
};

/* file.c: 0 or -errno, with shunt_failed_call set. */
int shunt_file_map(struct shunt_file *file, const char *path);
void shunt_file_unmap(struct shunt_file *file);

/* The error of a way that is closed to us: -EPERM or -ENOSYS where the system may say otherwise. */
static inline int shunt_error_of_closed(long error)
{
	return error == -EACCES ? -EPERM : error == -ENOENT ? -ENOSYS : (int)error;
}

#endif
