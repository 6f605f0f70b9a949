/* SPDX-License-Identifier: MIT */
/*
 * Proves that the code of the trap handler is closed, and that of the handler of the core sync
 * by signals: nothing that is reached from it by any path leaves the objects of the trap
 * path, takes a lock, uses a vector register or thread-local storage, or makes a
 * system call beyond those listed here.
 *
 *	closure DIRTY DIRTY-SYNC ARCHIVE ARCHIVE FILE...
 *
 * FILE: a libshunt.so or a program that it is in. ARCHIVE: the core, the trap path:
 * what they define is what is allowed. DIRTY: violations.c as a library. DIRTY-SYNC: the source
 * of the sync's handler, compiled with a stack protector, as a library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "../api/tap.h"
#include "core/key.h"
#include "walk.h"

/* ------------------------------------------------------------- what is allowed */

/* Names that the archives define. */
static char allowed[512][96];
static size_t nr_allowed;

static bool is_allowed(const char *name)
{
	for (size_t i = 0; i < nr_allowed; i++)
		if (!strcmp(allowed[i], name))
			return true;
	return false;
}

/* nm reads archives of every form. */
static void read_archive(const char *path)
{
	char command[1024], line[512], type;
	FILE *nm;

	(void)snprintf(command, sizeof(command), "nm --defined-only --format=posix '%s'", path);
	nm = popen(command, "r"); /* NOLINT(cert-env33-c): a path of our own build */
	while (nm && fgets(line, sizeof(line), nm))
		if (nr_allowed < 512 && sscanf(line, "%95s %c", allowed[nr_allowed], &type) == 2 &&
		    (type == 't' || type == 'T'))
			nr_allowed++;
	if (!nm || pclose(nm))
		nr_allowed = 0;
}

#define PER_KIND(name) "static_call.c:" name, "static_key.c:" name

/* Two of struct shunt_kind: key and direct. */
#define OF_A_KIND                                        \
	{                                                \
		PER_KIND("site_key"), PER_KIND("direct") \
	}

static const struct indirect indirect[] = {
	/* struct shunt_table: insn. clang has the first in the second. */
	{"shunt_site_find_key", 1, {"key_sites.c:current_insn"}},
	{"shunt_site_find", 1, {"key_sites.c:current_insn"}},
	{"current_insn", 2, OF_A_KIND},
	{NULL, 0, {NULL}},
};

static const unsigned syscalls[] = {
	SYS_rt_sigreturn,
	SYS_sched_yield,    /* a thread with a shadow stack waits */
	SYS_rt_sigprocmask, /* the mask of the program's handler */
	SYS_rt_sigaction,
	SYS_getpid,
	SYS_gettid,
	SYS_tgkill, /* die() */
	~0u,
};

/* SA_RESETHAND of the program's handler. */
static const char *const written[] = {"shunt_trap_records", NULL};

/* Of the traps, a line for each CPU; and of threads that go on with another's handler. */
static const char *const counters[] = {"shards", "shunt_trap_passing", NULL};

/*
 * The stubs for threads with a shadow stack are claimed, once each; mostly inlined. And
 * SA_RESETHAND.
 */
static const char *const claiming[] = {"find_stub", "do_for_real", "shunt_on_sigtrap",
				       "shunt_trap_reset", NULL};

static const struct rules rules = {is_allowed, indirect, syscalls, written, counters, claiming};

/* The handler of the core sync: it wakes who waits for it. */
static const unsigned sync_syscalls[] = {
	SYS_futex,  SYS_rt_sigaction, /* default_action() */
	SYS_getpid, SYS_gettid,       SYS_tgkill, SYS_rt_sigprocmask, /* is a page there? */ ~0u,
};

/* No lock: one exchange, of the word that says what is acknowledged. Or inlined. */
static const char *const sync_exchanging[] = {"acknowledge", "shunt_on_sync", NULL};

static const struct indirect no_indirect[] = {{NULL, 0, {NULL}}};
static const char *const nothing_written[] = {NULL};

static const struct rules sync_rules = {is_allowed,      no_indirect,     sync_syscalls,
					nothing_written, nothing_written, sync_exchanging};

/* ------------------------------------------------------------- the trap path */

static unsigned count_offences(const struct walk *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OFFENCES; i++)
		n += w->offences[i];
	return n;
}

/* The list of callees is whole as long as there is no other kind of key. */
static unsigned count_kinds(const struct image *image)
{
	unsigned n = 0;

	for (size_t i = 0; i < image->nr_symbols; i++) {
		const Elf64_Sym *sym = &image->symbols[i];
		const char *name = image_name(image, sym);
		size_t len = strlen(name);

		n += ELF64_ST_TYPE(sym->st_info) == STT_OBJECT &&
		     sym->st_size == sizeof(struct shunt_kind) && len > 5 &&
		     !strcmp(name + len - 5, "_kind");
	}
	return n;
}

static void check_file(const char *path)
{
	static const char *const must[] = {"shunt_on_sigtrap", "shunt_trap",
					   "shunt_site_find",  "shunt_text_site_find",
					   "current_insn",     "shunt_emulate"};
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	struct image image;
	struct walk w, back;
	unsigned reached = 0;
	bool found;

	if (!image_open(&image, path) || !walk(&w, &image, &rules, NULL, "shunt_on_sigtrap")) {
		ok(false, "%s has a trap handler", base);
		return;
	}
	ok(!count_offences(&w),
	   "%s: shunt_on_sigtrap is closed: %zu functions, %u instructions, %u calls, %u of them "
	   "through "
	   "pointers, %u tables of a switch, %u locked additions, %u system calls",
	   base, w.nr_functions, w.instructions, w.calls, w.indirect, w.tables, w.locked,
	   w.syscalls);
	for (size_t i = 0; i < sizeof(must) / sizeof(must[0]); i++)
		reached += walk_reached(&w, must[i]);
	ok(reached == sizeof(must) / sizeof(must[0]), "%s: the whole trap path has been reached",
	   base);
	ok(count_kinds(&image) == 2, "%s: two kinds of keys, both on the list", base);
	found = walk(&back, &image, &rules, NULL, "shunt_restore_rt");
	ok(found && !count_offences(&back) && back.syscalls == 1,
	   "%s: what it returns to is closed: %u instructions", base, back.instructions);
}

/* ------------------------------------------------------ the handler of the core sync */

static void check_sync(const char *path)
{
	static const struct rules too_strict = {is_allowed,      no_indirect, syscalls,
						nothing_written, NULL,        NULL};
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	struct image image;
	struct walk w;

	if (!image_open(&image, path) || !walk(&w, &image, &sync_rules, NULL, "shunt_on_sync")) {
		ok(false, "%s has a handler of the core sync", base);
		return;
	}
	ok(!count_offences(&w) && walk_reached(&w, "shunt_serialise"),
	   "%s: on_sync is closed: %zu functions, %u instructions, %u calls, %u exchanges, %u "
	   "system calls",
	   base, w.nr_functions, w.instructions, w.calls, w.locked, w.syscalls);
	ok(w.locked == 1, "%s: and exchanges one word, at one place", base);
	(void)walk(&w, &image, &too_strict, NULL, "shunt_on_sync");
	ok(w.offences[LOCKED] == 1 && w.offences[SYSCALL] == 1 && count_offences(&w) == 2,
	   "%s: by the rules of the trap handler, its exchange and its futex are seen", base);
}

/* The very source, by flags that it must not be compiled with. */
static void check_dirty_sync(const char *path)
{
	struct image image;
	struct walk w;

	ok(image_open(&image, path) && walk(&w, &image, &sync_rules, NULL, "shunt_on_sync") &&
		   w.offences[THREAD] && w.offences[IMPORT],
	   "on_sync with a stack protector: seen: %s, %s", offence_name(THREAD),
	   offence_name(IMPORT));
}

/* ----------------------------------------------------------- negative controls */

static bool is_dirty(const char *name)
{
	return !strncmp(name, "dirty_", 6);
}

static const struct {
	const char *root;
	enum offence offence; /* OFFENCES: none */
} controls[] = {
	{"dirty_nothing", OFFENCES},   {"dirty_outside", OUTSIDE},
	{"dirty_import", IMPORT},      {"dirty_sanitizer", SANITIZER},
	{"dirty_indirect", INDIRECT},  {"dirty_thread_local", THREAD},
	{"dirty_thread_call", IMPORT}, {"dirty_sse", VECTOR},
	{"dirty_avx", VECTOR},         {"dirty_x87", VECTOR},
	{"dirty_lock", LOCKED},        {"dirty_exchange", LOCKED},
	{"dirty_global", GLOBAL},      {"dirty_syscall", SYSCALL},
	{"dirty_number", SYSCALL},     {"dirty_trap", TRAP},
	{"dirty_deeper", VECTOR},
};

static void check_controls(const char *path)
{
	static const char *const counts[] = {"dirty_counters", NULL};
	static const struct rules dirty = {is_dirty,        no_indirect, syscalls,
					   nothing_written, counts,      NULL};
	struct image image;
	struct walk w;

	if (!ok(image_open(&image, path), "the dirty handlers"))
		return;
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		enum offence want = controls[i].offence;
		bool found = walk(&w, &image, &dirty, NULL, controls[i].root);

		if (want == OFFENCES)
			ok(found && !count_offences(&w), "%s: nothing", controls[i].root);
		else
			ok(found && w.offences[want] && count_offences(&w) == w.offences[want],
			   "%s: seen: %s", controls[i].root, offence_name(want));
	}
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return 2;
	read_archive(argv[3]);
	read_archive(argv[4]);
	ok(nr_allowed > 50, "%zu functions are in the objects of the trap path", nr_allowed);
	for (int i = 5; i < argc; i++) {
		check_file(argv[i]);
		check_sync(argv[i]);
	}
	check_controls(argv[1]);
	check_dirty_sync(argv[2]);
	return tap_done();
}
