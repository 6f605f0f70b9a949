/* SPDX-License-Identifier: MIT */
/*
 * What the files of the Linux port tell each other. The port itself is
 * <shunt/port.h>: text.c writes, sync.c synchronises, trap.c takes traps, lock.c
 * locks, memory.c allocates, report.c reports; module.c finds the sites.
 */
#ifndef SHUNT_LINUX_LINUX_H
#define SHUNT_LINUX_LINUX_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/sites.h"
#include "linux/bind.h"

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
	int32_t mem_fd;      /* text.c: descriptor of /proc/self/mem + 1; 0: not open */
	int32_t maps_fd;     /* area.c: that of /proc/self/maps + 1; 0: not open */
	int32_t signals_pid; /* sync_slots.c: the process that its slots are of */
};

/* This process's page. Never NULL: without memory it is a static one. */
extern struct shunt_process *_Atomic shunt_process_page;
struct shunt_process *shunt_make_process(void);

/* memory.c: the kernel clears it in a copy. Where it does not, lock.c sees to that. */
extern _Atomic bool shunt_process_is_wiped;

static inline struct shunt_process *shunt_process(void)
{
	/* Pairs with the exchange in shunt_make_process(). */
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	return p ? p : shunt_make_process();
}

/* The system call that failed last on this thread, for the message of the failure. */
extern __thread const char *shunt_failed_call __attribute__((tls_model("initial-exec")));

/* report.c: room on this thread for such a name that is made up; NULL: no memory. */
#define SHUNT_CALL_MAX 160 /* bytes */
char *shunt_call_buffer(void);

/* A message, at most, with its NUL; bytes. */
#define SHUNT_MESSAGE_MAX 512

/* text.c: make ready for a batch of @n sites, and tidy up after it. Update lock held. */
void shunt_text_begin(size_t n, enum shunt_way way);
void shunt_text_end(void);

/* text.c: this is a copy of the process, with the parent's descriptors. Update lock held. */
void shunt_text_copied(void);

/* text.c: close all descriptors that are kept: this library is unloaded. Update lock held. */
void shunt_text_leave(void);

/*
 * text.c: whether the descriptor of /proc/self/mem that is kept leads to this memory and not to
 * that of the process that this one is a copy of: 1 or 0; -1: there is none, or it does not tell.
 */
int shunt_text_is_own(void);

/*
 * mask.c: block this thread's signals, but for those that its own instructions may raise; the
 * mask before is in @before. And put that back. 0 or -errno, where a filter refuses it.
 * Async-signal-safe.
 */
int shunt_block_signals(uint64_t *before);
void shunt_restore_signals(uint64_t mask);

/*
 * text.c: @len bytes to @addr, through /proc/self/mem. Update lock held, within a batch.
 * Returns 0 or an error.
 */
int shunt_text_write_mem(const uint8_t *addr, const void *bytes, size_t len);

/* The error of a way that is closed to us: -EPERM or -ENOSYS where the system may say otherwise. */
static inline int shunt_closed(long error)
{
	return error == -EACCES ? -EPERM : error == -ENOENT ? -ENOSYS : (int)error;
}

/* Reads text, which ThreadSanitizer has no writable shadow for. */
static inline void shunt_copy_text(void *to, const void *from, size_t len)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

/*
 * way.c: whether nobody else runs this text. Asked at most once in a batch that is poked
 * because of it. Update lock held.
 */
bool shunt_is_alone(void);

/* way.c: the policy, the last batch's way, and why not another: for shunt_get_ways(). */
void shunt_poke_way(struct shunt_ways *ways);

/*
 * way.c, for the self-test: whether the policy may come to @way; have the next batches go
 * that way and no other, or as the policy says again. Update lock held.
 */
#define SHUNT_ANY_WAY (-1)
bool shunt_may_go(enum shunt_way way);
void shunt_force_way(int way);

/* trap.c: whether traps come to us; leave them to who had them before. Update lock held. */
bool shunt_has_traps(void);
void shunt_give_traps_back(void);

/* sync.c: make ready for the first core sync. Update lock held. */
void shunt_sync_prepare(void);

/* trap.c: take traps before the first batch does. Update lock not held. */
void shunt_take_traps_early(void);

/*
 * copies.c: from now on this copy of the library is not unmapped, as far as that can be had. Update
 * lock not held. Where it could be, the dynamic linker is asked: not in a signal handler.
 */
void shunt_pin(void);

/* copies.c: whether it may be unmapped before the process ends. */
bool shunt_can_go(void);

/* way.c: whether the policy is one that needs traps. */
bool shunt_wants_traps(void);

/* text.c, sync.c: the way in use, for shunt_get_ways(). */
const char *shunt_text_way(void);
const char *shunt_sync_way(void);

/* trap.c: sums over all CPUs. */
void shunt_trap_counts(uint64_t *emulated, uint64_t *late, uint64_t *foreign);

/*
 * handler.c: false: this thread is not in a signal handler. true: it may be. Costs a look
 * through its stack. Async-signal-safe.
 */
bool shunt_may_be_in_handler(void);

/* report.c: pass a finished line on; also keeps it for shunt_last_error(). */
void shunt_message(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for what is no failure. */
void shunt_note(const char *message);

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

/* The sites in a baked file that have not been read yet; nr_sites 0: none. */
struct shunt_baked_table {
	const void *sites; /* struct shunt_baked_site, in @file */
	uint32_t nr_sites, nr_mods;
	uintptr_t base;          /* what their offsets count from */
	struct shunt_range text; /* the module */
	struct shunt_file file;
};

/* What a module has mapped, as long as it is: the dynamic linker's own program headers. */
struct shunt_segments {
	const void *headers; /* ElfW(Phdr) */
	size_t n;
	uintptr_t bias;
};

/* The records of a module's static branches; n 0: none are known. */
struct shunt_jumps {
	const struct static_jump_entry *first;
	size_t n;
};

/* The static keys that a module tests at places that are not known, or not to be changed. */
struct shunt_refusal {
	const struct shunt_module *module; /* NULL: not of all that its branches test */
	struct shunt_jumps jumps;          /* all that these test */
	struct shunt_segments segments;    /* of the module; n 0: not known */
	struct static_key **keys;          /* besides, these */
	size_t nr_keys, max_keys;
	int error;
	const char *why; /* a message, which is never freed */
};

/* A module that has registered. Records are reused, never freed. */
struct shunt_loaded {
	struct shunt_loaded *next;
	const struct shunt_module *_Atomic module; /* its descriptor; NULL: not in use */
	struct shunt_range range;                  /* where it is mapped */
	bool stays;                                /* it is the program, or pinned */
	uintptr_t bias;                            /* load bias, bytes */
	struct shunt_segments segments;
	const char *path; /* its file; such a name is never freed */
	const char *why;  /* why its calls' sites are not known; NULL: they are */
	struct shunt_sites calls, branches;
	struct shunt_bindings bindings;           /* of calls.mods */
	size_t room_for_calls, room_for_branches; /* of their site arrays */
	struct shunt_baked_table baked;
	struct shunt_refusal refusal;
};

/* environment.c: the variables that are looked at, by their names. */
enum shunt_variable {
	SHUNT_ENV_FRAMES,
	SHUNT_ENV_LOG,
	SHUNT_ENV_POKE,
	SHUNT_ENV_SELFTEST,
	SHUNT_ENV_SYNC,
	SHUNT_ENV_WRITE,
};

/*
 * environment.c: which of its values the variable has, counted as in the table there: for
 * those of 0 and 1 that number, for SHUNT_POKE enum shunt_poke_policy, for others one of
 * these. -1: it is not set, or has another value, or is ignored (secure_getenv()).
 */
enum { SHUNT_ENV_MEM, SHUNT_ENV_MPROTECT };
enum { SHUNT_ENV_MEMBARRIER, SHUNT_ENV_SIGNAL };
int shunt_environment_value(enum shunt_variable which);

/* environment.c: say once which variables have values that they cannot have. No lock held. */
void shunt_check_environment(void);

/* selftest.c: run the self-test if SHUNT_SELFTEST=1 asks for it, and say how it went. */
void shunt_selftest_at_start(void);

/* loaded.c: the list, to be read with the update lock held. */
extern struct shunt_loaded *shunt_loaded_modules;
struct shunt_loaded *shunt_first_loaded(void);

/*
 * memory.c: an array of at least @n sites, zeroed; *room tells how many. It never
 * goes back to the system, because a trap handler may be reading it: freed arrays
 * become site arrays again. Update lock held.
 */
struct shunt_site *shunt_sites_alloc(size_t n, size_t *room);
void shunt_sites_free(struct shunt_site *sites, size_t room);

/*
 * memory.c: the same for the mods of a module, an array of @max elements of a
 * shunt_vector: where it is to be from now on; and that it is not needed any more. Update
 * lock held.
 */
struct shunt_mod *shunt_mods_settle(struct shunt_mod *mods, size_t max);
void shunt_mods_retire(struct shunt_mod *mods, size_t max);

/* exit.c: whether the process is exiting, when destructors do not mean unloading. */
bool shunt_is_exiting(void);

/* exit.c: this copy of the library is about to be unmapped, with the module it is in. */
bool shunt_is_leaving(void);

/* exit.c: have that noticed. Once the program has started; more than once is fine. */
void shunt_watch_exit(void);

/*
 * exit.c: have no module that has registered unmapped any more. Waits for the dynamic linker.
 * Update lock not held.
 */
void shunt_pin_modules(void);

/* The module that has address @inside, as the dynamic linker knows it. */
struct shunt_image {
	uintptr_t inside;
	uintptr_t bias;
	struct shunt_range range;
	const void *headers; /* ElfW(Phdr) */
	size_t nr_headers;
	bool is_program;
	bool is_copy; /* the headers are a copy, and the module may be going: shunt_image_read() */
	char path[4096];
};

/*
 * image.c: fill in @image for its @inside; false where no module has it. For a module that
 * stays while it is looked at: its headers are read in place. Takes no lock where the C library
 * has _dl_find_object().
 */
bool shunt_image_find(struct shunt_image *image);

/*
 * The same for a module that another thread may be unloading, and @look (or NULL) at it: with
 * a lock of the dynamic linker's held, under which nothing is unmapped. @look must take no lock.
 * image->headers is not to be had after that. Not in a signal handler, and with signals blocked
 * where a handler could jump out. Update lock not held.
 */
bool shunt_image_hold(struct shunt_image *image,
		      void (*look)(const struct shunt_image *image, void *arg), void *arg);

/*
 * The same, and no lock is taken, by copies that fail (peek.c): the module may be going away.
 * @look may be called and its result not be good: false then. Where the C library or the system
 * does not have what it takes, as shunt_image_hold().
 */
bool shunt_image_look(struct shunt_image *image,
		      void (*look)(const struct shunt_image *image, void *arg), void *arg);

/*
 * image.c: have the module at @image->inside, of file @image->path, never unmapped. 0 or -EAGAIN.
 * Waits for the dynamic linker. Update lock not held.
 */
int shunt_image_pin(struct shunt_image *image);

/* Copy @len bytes of @image's, which @look is called for; false: they are not there. */
bool shunt_image_read(const struct shunt_image *image, void *to, const void *from, size_t len);

/* way.c: whether a seccomp filter is in force. Async-signal-safe. */
bool shunt_is_filtered(void);

/*
 * peek.c: copy @len bytes that may not be there: false then, and where the system may refuse. And
 * a string, cut off to @size bytes with its NUL. Async-signal-safe.
 */
bool shunt_peek(void *to, const void *from, size_t len);
bool shunt_peek_string(char *to, size_t size, const char *from);

/* Whether [addr, addr + len) is executable text of the module. */
bool shunt_image_has_text(const struct shunt_image *image, uintptr_t addr, size_t len);
/* Whether a segment with all of @flags (PF_R, PF_X) has [addr, addr + len). */
bool shunt_segment_has(const struct shunt_segments *segments, uint32_t flags, uintptr_t addr,
		       size_t len);
/* The loaded segment that @addr is in, readable as far as the file goes; false: none. */
bool shunt_image_segment(const struct shunt_image *image, uintptr_t addr,
			 struct shunt_range *segment);

/* target.c: @image says itself when it goes away. Async-signal-safe. */
void shunt_targets_known(const struct shunt_image *image);

/*
 * target.c: put each key that points into @range back to its default, and say so.
 * Update lock not held.
 */
void shunt_targets_gone(struct shunt_range range, const char *path);

/*
 * image.c: open the file that the module was mapped from, and see to it that it is that one:
 * image->path is its name from then on. Update lock not held. Returns 0 or an error with
 * shunt_failed_call set: -ESTALE where another file has taken its place, -ENOEXEC where that
 * is no ELF file.
 */
struct shunt_elf;
int shunt_image_open(struct shunt_image *image, struct shunt_file *file, struct shunt_elf *elf);

/* file.c: 0 or -errno, with shunt_failed_call set. */
int shunt_file_map(struct shunt_file *file, const char *path);
void shunt_file_unmap(struct shunt_file *file);

#endif
