/* SPDX-License-Identifier: MIT */
/*
 * The dynamic linker's list is walked under a lock of it, by dl_iterate_phdr(). fork() copies that
 * lock as it is: where another thread has it, nobody in the child will ever release it. So
 *
 * - libshunt's own walks are over at a fork(): it waits for those that have begun, and those that
 *   begin wait for it. Neither for ever, because each may have what the other one is waiting for:
 *   the program's locks, by its handlers of pthread_atfork(); and its own callback of
 *   dl_iterate_phdr().
 * - In a copy of the process the lock is not taken. The list is the one that the dynamic linker
 *   keeps for debuggers (struct r_debug), in which a module is linked, and unlinked, by one store.
 *   What the copy's other threads unload meanwhile is held up by the lock of sets where that is
 *   held (entry/notice.c), and read by the kernel, which does not fault (peek.c), where it is not.
 *
 * Where a thread of the parent was loading or unloading, modules in the list may be half there.
 * Then those are left out that _dl_find_object() does not find: it does from relocation to just
 * behind their unmapping; and those whose first page is not there.
 */
#include <elf.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/base/libc.h"
#include "linux/base/syscall.h"

#define PATIENCE    2000000000ul /* ns */
#define MODULES_MAX 65536        /* a list that changes while it is read may lead in a circle */

typedef int (*callback)(struct dl_phdr_info *info, size_t size, void *arg);

/* ------------------------------------------------------------------------- fork() */

static _Atomic unsigned walks, forks;
/* This thread's own: a handler in the one may do the other. */
static __thread unsigned own_walks __attribute__((tls_model("initial-exec")));
static __thread unsigned own_forks __attribute__((tls_model("initial-exec")));

/* False: since *@begin, which is 0 at first, it has been too long. */
static bool wait_a_moment(uint64_t *begin)
{
	struct timespec moment = {0, 200000};
	uint64_t now = shunt_clock();

	*begin = *begin ? *begin : now;
	if (now - *begin > PATIENCE)
		return false;
	(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
	return true;
}

static void begin_walk(void)
{
	uint64_t begin = 0;
	bool is_inner = own_walks++;

	atomic_fetch_add(&walks, 1);
	while (!is_inner && atomic_load(&forks) > own_forks) {
		bool may_wait;

		atomic_fetch_sub(&walks, 1);
		may_wait = wait_a_moment(&begin);
		atomic_fetch_add(&walks, 1);
		if (!may_wait)
			return;
	}
}

static void end_walk(void)
{
	own_walks--;
	atomic_fetch_sub(&walks, 1);
}

static void before_fork(void)
{
	uint64_t begin = 0;

	own_forks++;
	atomic_fetch_add(&forks, 1);
	while (!shunt_dl_is_copied() && atomic_load(&walks) > own_walks && wait_a_moment(&begin))
		;
}

static void in_parent(void)
{
	own_forks--;
	atomic_fetch_sub(&forks, 1);
}

static void in_child(void)
{
	struct shunt_process *process =
		atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	if (process) {
		atomic_store(&process->is_original, false);
		atomic_store(&process->is_forked, true);
	}
	own_forks--;
	atomic_store(&forks, own_forks);
	atomic_store(&walks, own_walks);
}

__attribute__((constructor(101))) static void watch_forks(void)
{
	(void)shunt_process();
	(void)pthread_atfork(before_fork, in_parent, in_child);
}

bool shunt_dl_is_copied(void)
{
	return !atomic_load_explicit(&shunt_process()->is_original, memory_order_relaxed);
}

/* ------------------------------------------------------------------ the list of a copy */

/* The program, as the kernel has told it. */
static bool find_program(struct dl_phdr_info *info)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	uintptr_t at = (uintptr_t)headers;

	*info = (struct dl_phdr_info){.dlpi_name = "", .dlpi_phdr = headers};
	if (!headers)
		return false;
	info->dlpi_phnum = (ElfW(Half))getauxval(AT_PHNUM);
	for (size_t i = 0; i < info->dlpi_phnum; i++)
		if (headers[i].p_type == PT_PHDR) {
			info->dlpi_addr = at - headers[i].p_vaddr;
			return true;
		}
	/* A static one may have no such entry, and has them behind the ELF header, with which its
	 * first segment begins. */
	for (size_t i = 0; i < info->dlpi_phnum; i++)
		if (headers[i].p_type == PT_LOAD && !headers[i].p_offset) {
			info->dlpi_addr = at - sizeof(ElfW(Ehdr)) - headers[i].p_vaddr;
			break;
		}
	return true;
}

struct r_debug *shunt_dl_debug(void)
{
	struct dl_phdr_info program;

	for (size_t i = 0; find_program(&program) && i < program.dlpi_phnum; i++) {
		const ElfW(Dyn) * dyn;

		if (program.dlpi_phdr[i].p_type != PT_DYNAMIC)
			continue;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		dyn = (const ElfW(Dyn) *)(program.dlpi_addr + program.dlpi_phdr[i].p_vaddr);
		for (; dyn->d_tag != DT_NULL; dyn++)
			if (dyn->d_tag == DT_DEBUG)
				/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
				return (struct r_debug *)dyn->d_un.d_ptr;
	}
	return NULL;
}

bool shunt_dl_may_be_locked(void)
{
	const struct r_debug *debug;

	if (!shunt_dl_is_copied())
		return false;
	if (!atomic_load_explicit(&shunt_process()->is_forked, memory_order_relaxed))
		return true;
	debug = shunt_dl_debug();
	return debug && debug->r_state != RT_CONSISTENT;
}

/* Where the kernel may not be asked, @is_there says whether it is not needed. */
static bool look_at(void *to, const void *from, size_t len, bool is_there)
{
	if (shunt_peek(to, from, len))
		return true;
	if (!is_there || !shunt_is_filtered())
		return false;
	memcpy(to, from, len);
	return true;
}

static bool read_name(char *to, size_t size, const char *from)
{
	if (!from)
		return false;
	if (shunt_peek_string(to, size, from))
		return true;
	if (!shunt_is_filtered() || strlen(from) >= size)
		return false;
	memcpy(to, from, strlen(from) + 1);
	return true;
}

/* Where the module of @map, a copy of what is at @at, begins; NULL: it is not whole. */
static const char *start_of(const struct link_map *map, const void *at, bool is_consistent,
			    bool *is_found)
{
	struct dl_find_object found;

	*is_found = _dl_find_object && !_dl_find_object(map->l_ld, &found) &&
		    (const void *)found.dlfo_link_map == at;
	if (*is_found)
		return found.dlfo_map_start;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return is_consistent || !_dl_find_object ? (const char *)map->l_addr : NULL;
}

/* Its program headers, which linkers put into the first page. */
static bool find_headers(const char *start, bool is_there, struct dl_phdr_info *info)
{
	ElfW(Ehdr) elf;

	if (!start || !look_at(&elf, start, sizeof(elf), is_there) ||
	    memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 || elf.e_phentsize != sizeof(ElfW(Phdr)) ||
	    elf.e_phoff + elf.e_phnum * sizeof(ElfW(Phdr)) > 4096)
		return false;
	info->dlpi_phdr = (const ElfW(Phdr) *)(start + elf.e_phoff);
	info->dlpi_phnum = elf.e_phnum;
	return true;
}

static int call_with(const struct link_map *map, const void *at, bool is_consistent, callback fn,
		     void *arg)
{
	char name[4096];
	struct dl_phdr_info info = {.dlpi_addr = map->l_addr, .dlpi_name = name};
	bool is_found;
	const char *start = start_of(map, at, is_consistent, &is_found);

	if (!find_headers(start, is_consistent || is_found, &info) ||
	    !read_name(name, sizeof(name), map->l_name))
		return 0;
	return fn(&info, sizeof(info), arg);
}

static int iterate_in_copy(callback fn, void *arg)
{
	struct dl_phdr_info program;
	struct link_map map = {0};
	const struct r_debug *debug;
	bool is_consistent;
	int ret;

	if (!find_program(&program))
		return 0;
	ret = fn(&program, sizeof(program), arg);
	debug = shunt_dl_debug();
	if (ret || !debug || !debug->r_map)
		return ret;
	is_consistent = debug->r_state == RT_CONSISTENT;
	/* The first is the program. */
	(void)look_at(&map, debug->r_map, sizeof(map), true);
	for (unsigned i = 0; map.l_next && i < MODULES_MAX && !ret; i++) {
		const struct link_map *at = map.l_next;

		if (!look_at(&map, at, sizeof(map), true))
			break;
		ret = call_with(&map, at, is_consistent, fn, arg);
	}
	return ret;
}

int shunt_dl_iterate(callback fn, void *arg)
{
	int ret;

	if (shunt_dl_is_copied())
		return iterate_in_copy(fn, arg);
	begin_walk();
	ret = dl_iterate_phdr(fn, arg);
	end_walk();
	return ret;
}

/* -------------------------------------------------------------------------- changes */

static int count_changes(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(uint64_t *)arg = info->dlpi_adds + info->dlpi_subs;
	return 1;
}

/* Of what is loaded, and where. */
static uint64_t sum_of_list(void)
{
	const struct r_debug *debug = shunt_dl_debug();
	struct link_map map = {.l_next = debug ? debug->r_map : NULL};
	uint64_t sum = 0;

	for (unsigned i = 0; map.l_next && i < MODULES_MAX; i++) {
		if (!look_at(&map, map.l_next, sizeof(map), true))
			break;
		sum = sum * 0x100000001b3 + (uintptr_t)map.l_ld;
	}
	return sum;
}

uint64_t shunt_dl_changes(void)
{
	uint64_t n = 0;

	if (shunt_dl_is_copied())
		return sum_of_list();
	(void)shunt_dl_iterate(count_changes, &n);
	return n;
}
