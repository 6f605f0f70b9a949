/* SPDX-License-Identifier: MIT */
/*
 * The functions of a process that a thread's call chain is looked at for: libc's waits, malloc()
 * and its like, the dynamic linker.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inject_thread.h"
#include "remote.h"

enum {
	TAIL = 1024, /* bytes of text: of a function, and of what it goes on in */
	PATH = 200   /* of a module, as remote_elf.h has it */
};

/*
 * What sem_wait() and its variants go on in, by a jump, so that no return address is theirs: a
 * function of the same object file, right before them, that has no name.
 */
static void add_tails(struct thread_search *search)
{
#ifdef INJECT_NO_TAILS /* the tests' control */
	const size_t named = 0;
#else
	const size_t named = search->waits_n;
#endif
	for (size_t i = 0; i < named; i++) {
		const struct remote_range *of = &search->waits[i];
		unsigned char text[TAIL];
		size_t size = of->end - of->start < TAIL ? of->end - of->start : TAIL;

		if (remote_read(search->space, of->start, text, size))
			continue;
		for (size_t at = 0; at + 5 <= size; at++) {
			int32_t distance;
			uint64_t to;

			memcpy(&distance, text + at + 1, sizeof(distance));
			to = of->start + at + 5 + (uint64_t)(int64_t)distance;
			if (text[at] == 0xe9 && !(to & 15) && to < of->start &&
			    of->start - to <= TAIL &&
			    search->waits_n < sizeof(search->waits) / sizeof(search->waits[0]))
				search->waits[search->waits_n++] =
					(struct remote_range){to, of->start};
		}
	}
}

/* The names of a function that each module is asked for. */
static void add_allocators(struct thread_search *search, const struct remote_module *module)
{
	static const char *const names[] = {
		"malloc",         "free",         "calloc",         "realloc",     "memalign",
		"posix_memalign", "reallocarray", "aligned_alloc",  "malloc_trim", "dlopen",
		"dlclose",        "dlsym",        "dl_iterate_phdr"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		search->allocators_n += remote_symbols(
			search->space, module, names[i], search->allocators + search->allocators_n,
			sizeof(search->allocators) / sizeof(search->allocators[0]) -
				search->allocators_n);
}

/*
 * Whether all of the module is an allocator: a library that has a malloc() for others, and does not
 * stand in the place of libc's waits as well, as those of the sanitizers do, whose functions are
 * in every call chain. Not the program, which may be anything else beside.
 */
static bool is_malloc_library(const struct thread_search *search,
			      const struct remote_module *module, const char *program)
{
#ifdef INJECT_NAMES_ALONE /* the tests' control */
	return false;
#endif
	return module != search->libc && strcmp(module->name, program) != 0 &&
	       remote_symbol(search->space, module, "malloc") &&
	       !remote_symbol(search->space, module, "poll") &&
	       !remote_symbol(search->space, module, "nanosleep") &&
	       !remote_symbol(search->space, module, "read");
}

static void add_malloc_libraries(struct thread_search *search)
{
	const size_t max = sizeof(search->malloc_libraries) / sizeof(search->malloc_libraries[0]);
	char path[64], program[PATH] = "";
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)remote_thread(search->space->pid));
	n = readlink(path, program, sizeof(program) - 1);
	program[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < search->space->modules_n && search->malloc_libraries_n < max; i++) {
		const struct remote_module *module = &search->space->modules[i];

		if (strstr(module->name, "/ld-linux") || is_malloc_library(search, module, program))
			search->malloc_libraries[search->malloc_libraries_n++] =
				(struct remote_range){module->start, module->end};
	}
}

void thread_search_begin(struct thread_search *search, const struct remote_space *space,
			 const struct remote_module *libc)
{
	static const char *const waits[] = {"pthread_cond_wait",      "pthread_cond_timedwait",
					    "pthread_cond_clockwait", "sem_wait",
					    "sem_timedwait",          "sem_clockwait",
					    "pthread_join",           "pthread_timedjoin_np",
					    "pthread_clockjoin_np",   "pthread_barrier_wait"};
	/* In which the kernel delivers a signal to who waits, or has blocked it until then. */
	static const char *const interrupted[] = {"select",
						  "pselect",
						  "poll",
						  "ppoll",
						  "epoll_wait",
						  "epoll_pwait",
						  "epoll_pwait2",
						  "read",
						  "recv",
						  "recvfrom",
						  "recvmsg",
						  "accept",
						  "accept4",
						  "nanosleep",
						  "clock_nanosleep",
						  "pause",
						  "sigsuspend",
						  "sigwaitinfo",
						  "sigtimedwait",
						  "wait4",
						  "waitpid",
						  "waitid",
						  "pthread_sigmask",
						  "sigprocmask"};

	*search = (struct thread_search){.space = space, .libc = libc};
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
		search->waits_n += remote_symbols(
			space, libc, waits[i], search->waits + search->waits_n,
			sizeof(search->waits) / sizeof(search->waits[0]) - search->waits_n);
	search->barriers_n = remote_symbols(space, libc, "pthread_barrier_wait", search->barriers,
					    sizeof(search->barriers) / sizeof(search->barriers[0]));
	add_tails(search);
	/* libc's first: what is behind them may go on, by a jump, in anything. */
	add_allocators(search, libc);
	search->libc_allocators_n = search->allocators_n;
	for (size_t i = 0; i < space->modules_n; i++)
		if (&space->modules[i] != libc)
			add_allocators(search, &space->modules[i]);
	add_malloc_libraries(search);
	for (size_t i = 0; i < sizeof(interrupted) / sizeof(interrupted[0]); i++)
		search->interrupted_n += remote_symbols(
			space, libc, interrupted[i], search->interrupted + search->interrupted_n,
			sizeof(search->interrupted) / sizeof(search->interrupted[0]) -
				search->interrupted_n);
}

bool thread_is_return_to(const struct remote_range *ranges, size_t n, uint64_t address)
{
	for (size_t i = 0; i < n; i++)
		if (address > ranges[i].start && address <= ranges[i].end)
			return true;
	return false;
}

/* Whether @address is in text of the dynamic linker, or of a library that is an allocator. */
static bool is_in_library(const struct thread_search *search, uint64_t address)
{
	for (size_t i = 0; i < search->malloc_libraries_n; i++) {
		const struct remote_range *library = &search->malloc_libraries[i];

		if (address >= library->start && address < library->end) {
			const struct remote_map *map = remote_map_at(search->space, address);

			return map && map->is_executable;
		}
	}
	return false;
}

/* Where a jump or call through memory, `ff 25` or `ff 15`, that ends at @end leads; 0: nowhere. */
static uint64_t through_memory(const struct thread_search *search, const unsigned char *distance,
			       uint64_t end)
{
	uint64_t to = 0;
	int32_t offset;

	memcpy(&offset, distance, sizeof(offset));
	return remote_read(search->space, end + (uint64_t)(int64_t)offset, &to, sizeof(to)) ? 0
											    : to;
}

/* What the call before @address called, beyond an entry of the PLT; 0: not known. */
static uint64_t called_before(const struct thread_search *search, uint64_t address)
{
	unsigned char before[6], stub[12];
	const unsigned char *jump = stub;
	int32_t distance;
	uint64_t to;

	if (remote_read(search->space, address - sizeof(before), before, sizeof(before)))
		return 0;
	if (before[0] == 0xff && before[1] == 0x15)
		return through_memory(search, before + 2, address);
	if (before[1] != 0xe8)
		return 0;
	memcpy(&distance, before + 2, sizeof(distance));
	to = address + (uint64_t)(int64_t)distance;
	if (remote_read(search->space, to, stub, sizeof(stub)))
		return to;
	jump += !memcmp(stub, "\xf3\x0f\x1e\xfa", 4) ? 4 : 0; /* endbr64 */
	jump += *jump == 0xf2;
	if (jump[0] != 0xff || jump[1] != 0x25)
		return to;
	return through_memory(search, jump + 2, to + (uint64_t)(jump - stub) + 6);
}

/*
 * Whether @address is behind a call of a malloc() that is not libc's: that one may have gone on in
 * another function by a jump, which then returns here, and has no frame of its own. libc's does so
 * nowhere where it sleeps.
 */
static bool is_behind_allocator(const struct thread_search *search, uint64_t address)
{
	uint64_t called;

#ifdef INJECT_NAMES_ALONE
	return false;
#endif
	/* Where no frames tell, what earlier calls have left would refuse too many. */
	if (search->allocators_n == search->libc_allocators_n || !chain_is_available())
		return false;
	called = called_before(search, address);
	for (size_t i = search->libc_allocators_n; called && i < search->allocators_n; i++)
		if (called >= search->allocators[i].start && called < search->allocators[i].end)
			return true;
	return false;
}

bool thread_is_of_allocator(const struct thread_search *search, uint64_t address)
{
	return thread_is_return_to(search->allocators, search->allocators_n, address) ||
	       is_in_library(search, address) || is_behind_allocator(search, address);
}
