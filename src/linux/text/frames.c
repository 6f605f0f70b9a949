/* SPDX-License-Identifier: MIT */
/*
 * Pools of veneers and unwinding. Whoever is called through a veneer never sees it: it is
 * left by a jmp, and the return address is the site's. But a thread can be interrupted, or
 * cancelled, while it stands in one, and then an unwinder has to find the caller. In
 * all of a veneer, as at the first instruction of any function, the return address is
 * on top of the stack. A module's own veneers say so in its .eh_frame. For a pool, which
 * comes into being at run time, one frame description, made when the pool is, covers all
 * of it for good.
 *
 * Unwinders learn of it as they do from JIT compilers, by __register_frame(). That
 * calls malloc() and takes locks, so it waits until the update lock is free. The
 * unwinder is looked for in two places, because there can be two: the one that this
 * library was linked to, if there is any (libgcc's or LLVM's libunwind), and
 * libgcc_s.so.1, which the C library itself loads for backtrace() and pthread_cancel().
 * It is loaded here if it is not there yet: later it could not be told.
 *
 * There is a price. Before gcc 13, libgcc takes a lock for every look-up once anything
 * has been registered, and a handler that walks the stack of a thread that is throwing
 * (a profiler's, say) waits for itself. So such an unwinder is told only where the user
 * asks for it (SHUNT_FRAMES=1).
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/base/environment.h"
#include "linux/base/libc.h"
#include "linux/base/syscall.h"
#include "linux/sync/sync_handler.h"
#include "linux/text/frames.h"

/* libgcc's takes a whole .eh_frame, from its first CIE to the end mark; */
extern void __register_frame(void *eh_frame);
/* that of LLVM's libunwind takes an FDE: it is told apart by this, its own name for it. */
extern void __unw_add_dynamic_fde(uintptr_t fde);
/* libgcc's look-up. Its first one takes a new .eh_frame in, and allocates for that. */
struct bases {
	void *text, *data, *function;
};
extern const void *_Unwind_Find_FDE(void *ip, struct bases *bases);
#pragma weak __register_frame
#pragma weak __unw_add_dynamic_fde
#pragma weak _Unwind_Find_FDE
#pragma weak dlopen
#pragma weak dlsym

/* One unwinder of libgcc's; NULL where there is none. */
struct unwinder {
	void (*add)(void *eh_frame);
	const void *(*find)(void *ip, struct bases *bases);
	bool is_lock_free; /* known to look frames up without a lock */
};

/* What no unwinder has been told of. */
static struct shunt_frames *_Atomic unknown;

/* As at the first instruction of any function. */
static const struct shunt_eh_frame template = {
	.cie =
		{
			.length = sizeof(template.cie) - 4,
			.version = 1,
			.code_align = 1,
			.data_align = 0x78, /* -8 */
			.return_column = SHUNT_CFI_RETURN,
			.program = SHUNT_CFI_PROGRAM,
		},
	.fde =
		{
			.length = sizeof(template.fde) - 4,
			.cie = sizeof(template.cie) + 4,
		},
};

void shunt_frames_add(struct shunt_frames *frames, uintptr_t start, size_t size)
{
	frames->eh_frame = template;
	frames->eh_frame.fde.start = start;
	frames->eh_frame.fde.size = size;
	frames->next = atomic_load_explicit(&unknown, memory_order_relaxed);
	/* Pairs with the exchange in shunt_frames_register(). */
	while (!atomic_compare_exchange_weak_explicit(&unknown, &frames->next, frames,
						      memory_order_release, memory_order_relaxed))
		;
}

static struct unwinder own_unwinder(void)
{
	struct unwinder own = {0};

	if (!__unw_add_dynamic_fde) {
		own.add = __register_frame;
		own.find = _Unwind_Find_FDE;
	}
	return own;
}

/*
 * That of libgcc_s. A static program has none: it has no dynamic linker. In a copy of the process
 * it is not loaded, for which the lock of the list is taken (base/dl_list.h).
 */
static struct unwinder libgcc_unwinder(void)
{
	struct unwinder libgcc = {0};
	void *handle = NULL, *add, *find;

	if (dlopen && dlsym && getauxval(AT_BASE) && !shunt_dl_may_be_locked())
		handle = dlopen("libgcc_s.so.1",
				RTLD_LAZY | (shunt_dl_is_copied() ? RTLD_NOLOAD : 0));
	if (!handle)
		return libgcc;
	add = dlsym(handle, "__register_frame");
	find = dlsym(handle, "_Unwind_Find_FDE");
	memcpy(&libgcc.add, &add, sizeof(add));
	memcpy(&libgcc.find, &find, sizeof(find));
	/* Any symbol would do that came with gcc 13. */
	libgcc.is_lock_free = dlvsym && dlvsym(handle, "__truncsfbf2", "GCC_13.0.0");
	return libgcc;
}

/* The look-up is for later ones, which may be made in a signal handler. */
static void register_with(const struct unwinder *unwinder, bool always, struct shunt_frames *frames)
{
	struct bases unused;

	if (!unwinder->add || !(always || unwinder->is_lock_free))
		return;
	unwinder->add(&frames->eh_frame);
	if (unwinder->find)
		(void)unwinder->find((void *)frames->eh_frame.fde.start, &unused);
}

static void register_all(void)
{
	struct unwinder own, libgcc;
	struct shunt_frames *frames;
	bool always;
	int wanted;

	frames = atomic_exchange_explicit(&unknown, NULL, memory_order_acquire);
	wanted = shunt_environment_value(SHUNT_ENV_FRAMES);
	if (!frames || !wanted)
		return;
	libgcc = libgcc_unwinder();
	own = own_unwinder();
	if (own.add == libgcc.add)
		own.add = NULL;
	always = wanted == 1;
	for (; frames; frames = frames->next) {
		if (__unw_add_dynamic_fde)
			__unw_add_dynamic_fde((uintptr_t)&frames->eh_frame.fde);
		register_with(&own, always, frames);
		register_with(&libgcc, always, frames);
	}
}

/*
 * This thread may wait for the dynamic linker's lock now, and who has that for it to answer the
 * core sync by signals.
 */
static void open_to_sync(void)
{
	uint64_t set = shunt_sync_signal > 0 ? UINT64_C(1) << (shunt_sync_signal - 1) : 0;

	if (set)
		(void)shunt_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof(set));
}

/*
 * Whoever takes the list does the work, so an update that the C library's allocator
 * makes on the way finds nothing to do. Of an update in a signal handler the pools wait
 * for the next one that is not. A handler must not jump out of this either.
 */
void shunt_frames_register(void)
{
	int saved = errno;
	uint64_t mask;

	if (!atomic_load_explicit(&unknown, memory_order_relaxed) || shunt_may_be_in_handler())
		return;
	if (!shunt_block_signals(&mask)) {
		open_to_sync();
		register_all();
		shunt_restore_signals(mask);
	}
	errno = saved;
}
