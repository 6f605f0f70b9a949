/* SPDX-License-Identifier: MIT */
/*
 * The modules whose functions can be traced, between the files of this room:
 *
 *	trace_lock.c  the locks, and their order
 *	modules.c     a record for each module that is loaded; what comes, what is gone
 *	sets.c        a module's file made into a set of entries with names
 *	loader.c      the dynamic linker's records
 *	notice.c      the dynamic linker says that it loads and unloads
 *	notice_text.c what of its text is changed for that
 *	wanted.c      when the looking begins
 *	list.c        shunt_for_each_function()
 *	restore.c     all text as it was
 */
#ifndef SHUNT_LINUX_MODULES_H
#define SHUNT_LINUX_MODULES_H

#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/entry/finder.h"
#include "linux/module/image.h"

/* trace_lock.c: the lock of sets alone. 0, -EDEADLK; -EAGAIN, where @gives_up; or an error. */
int shunt_sets_lock(bool gives_up);
void shunt_sets_unlock(void);
/* The same within a call of the interface, which is about to wait for callbacks. */
void shunt_sets_pause(void);
/* Before anything is looked at in a copy of the process. The lock of calls or of sets is held. */
void shunt_trace_begin_process(void);
bool shunt_sets_are_locked(void);
/* How often a copy of the process has found that a thread which it has not had that lock. */
unsigned shunt_sets_abandoned(void);
/* awaited.c: the futex that a callback which somebody waits for sleeps at; 0: none. */
void shunt_callback_sleeps_at(uintptr_t futex);
/* awaited.c: whether it is that of a mutex which this thread has. */
bool shunt_callback_waits_for_caller(void);
/* Its holder is about to wait for the dynamic linker's list, or has done. */
void shunt_sets_in_loader(bool is);

/* A module. Guarded by the lock of sets. */
struct shunt_traced_module {
	struct shunt_traced_module *next;
	uint64_t number; /* in the order of coming, never used again */
	struct shunt_range range;
	uintptr_t bias;
	const void *headers; /* ElfW(Phdr), in the module */
	size_t nr_headers;
	bool is_program, is_seen;
	bool is_other;        /* of a namespace that is not this copy of the library's */
	char *link_name;      /* by which the dynamic linker knows it */
	const char *path;     /* of its file; never freed */
	const char *why;      /* nothing in it can be traced; NULL: it can */
	const char *call;     /* that failed, or NULL */
	int error;            /* what its file could not be read for; 0: it could */
	bool is_told;         /* @why has been said */
	uint8_t build_id[32]; /* of its file, once that was opened */
	size_t build_id_len;
	struct shunt_entries set;
	size_t room_for_entries, room_for_names; /* bytes */
	bool has_set;
};

extern struct shunt_traced_module *shunt_traced_modules;

/*
 * modules.c: look for modules that have come or gone; @again: also at those whose file could not be
 * read. Lock of sets held.
 */
void shunt_modules_update(bool again);
/*
 * Of modules in which nothing can be traced, a line into @text, once. False: there is none that has
 * not been told. Lock of sets held.
 */
bool shunt_modules_untold(char *text, size_t size);
/* An error where there is a module of which no record could be made. Lock of sets held. */
int shunt_modules_unrecorded(void);
/* wanted.c: look for modules, as shunt_port_entries_lock(), without a word of those. */
int shunt_modules_look(const char *what, const struct ftrace_ops *ops);
/* wanted.c: behind it, the ftrace lock; where the notices were stopped meanwhile, look again. */
int shunt_modules_lock(const char *what, const struct ftrace_ops *ops);

/* sets.c: @text, for as long as the process lives; NULL: no memory. */
const char *shunt_module_intern(const char *text);
/* sets.c: open the file of @m; 0, or an error, with the reason in *why. */
int shunt_module_open(struct shunt_traced_module *m, struct shunt_file *file, struct shunt_elf *elf,
		      const char **why);
/* sets.c: find what there is in @m, and hand it to the core. */
void shunt_module_find(struct shunt_traced_module *m);
/* sets.c: its set is no more. */
void shunt_module_drop(struct shunt_traced_module *m);
/* sets.c: free what sets that are gone had. No lock held; waits for callbacks. */
void shunt_sets_reclaim(void);
/* sets.c: what the file's handlers of -pg and -finstrument-functions are to the finder. */
void shunt_module_look_for_handlers(struct shunt_traced_module *m);
/* sets.c: prepare the finder for @m. */
void shunt_module_finder(const struct shunt_traced_module *m, const struct shunt_elf *elf,
			 struct shunt_find *f);

/* entry_stubs.c, where SHUNT_HAS_ENTRY_STUBS: the module at [@start, @end) is gone. */
void shunt_entry_stubs_forget(uintptr_t start, uintptr_t end);

/*
 * notice.c: have the dynamic linker tell, whose r_debug is @debug (0: none), and wait for the end
 * of an unload that has begun before. 0; or -EAGAIN, with shunt_failed_call: that does not end, and
 * no module may be looked at. Where it cannot be told: 0. Lock of sets held, and this copy of the
 * library stays.
 */
int shunt_notice_start(uintptr_t debug);
bool shunt_notice_was_started(void); /* and not stopped since */
/* A line into @text, once, where it does not tell. False: it does, or that has been said. */
bool shunt_notice_untold(char *text, size_t size);
/*
 * It tells no more, and its text is as it was but where another libshunt is told by it. 0 or
 * -errno. Locks of calls and of sets held.
 */
int shunt_notice_stop(void);

/* notice_entry.S of arch/CPU: what the dynamic linker calls; it goes to shunt_on_notice(). */
extern const char shunt_notice_entry[];
/* notice_text.c: another libshunt's, which is told by this one's; NULL: none. */
extern void (*_Atomic shunt_notice_next)(void);

/* notice_text.c: where shunt_notice_entry() is called, or from where another's is. */
enum shunt_notice_place {
	SHUNT_NOTICE_NONE,   /* not to be had, for *error, or because it is not as expected: 0 */
	SHUNT_NOTICE_TEXT,   /* in the dynamic linker's text */
	SHUNT_NOTICE_BEHIND, /* another libshunt's shunt_notice_next */
};
/* Have @brk, its function for debuggers, lead there. Lock of sets held. */
enum shunt_notice_place shunt_notice_hook(uintptr_t brk, int *error);
/* That text as it was, if nobody is told by it. 0 or -errno. Lock of sets held. */
int shunt_notice_unhook(void);

/* loader.c: its records are at @debug (0: none). Returns r_brk, or 0. */
uintptr_t shunt_loader_open(uintptr_t debug);
/*
 * The modules of all namespaces, those of the own one among them: call @fn with what each
 * link_map has; @name "": the program. Under the dynamic linker's list.
 */
void shunt_loader_others(void (*fn)(uintptr_t base, const char *name));
/* In a copy of the process: what its parent's threads had begun does not end there. */
void shunt_loader_copied(void);
/* notice.c: of the unload that has begun we have been told. Any thread. */
void shunt_loader_unload_told(bool is);
bool shunt_loader_is_unload_told(void);
/* Whether an unload, or a load, has begun in any namespace, and not ended. */
bool shunt_loader_is_deleting(void);
bool shunt_loader_is_adding(void);

#endif
