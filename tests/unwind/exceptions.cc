/* SPDX-License-Identifier: MIT */
/*
 * C++ exceptions through a static call, on each path, while another thread changes
 * the targets all the time; and exceptions that a signal handler throws while the
 * thread stands in a veneer or in a trampoline. Destructors on the way are counted.
 *
 * The same in processes of their own whose veneers come from a pool, because the program's
 * own are used up. Controls: a pool that is kept from the unwinder (SHUNT_FRAMES=0), and
 * the same program with veneers of its own that lack call frame information (area_without_cfi.S,
 * its path is the argument): std::terminate().
 */
#include <atomic>
#include <csignal>
#include <cstring>
#include <exception>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "paths.h"

namespace
{

std::atomic<bool> stop;
std::atomic<unsigned long> updates, failures;

struct Thrown {
	long value;
};

long throw_it(long arg)
{
	throw Thrown{arg};
}

/* An object on the way: counts that it has been destroyed. */
struct Guard {
	unsigned long *count;
	~Guard()
	{
		++*count;
	}
};

KEEP long guarded(const path &p, long arg, unsigned long *destroyed)
{
	Guard guard{destroyed};

	return p.function(arg) + 1;
}

void *keep_updating(void *)
{
	for (unsigned round = 0; !stop; round++) {
		failures += paths_update(round) != 0;
		updates++;
	}
	failures += paths_update(0) != 0;
	return nullptr;
}

constexpr unsigned long ENOUGH = 10; /* updates */

struct Counts {
	unsigned long thrown, caught, destroyed, wrong;
};

/* The targets of the even rounds throw the argument, the others one more. */
void throw_once(const path &p, long arg, Counts *counts)
{
	counts->thrown++;
	try {
		counts->wrong += guarded(p, arg, &counts->destroyed) != 0;
	} catch (const Thrown &thrown) {
		counts->caught++;
		counts->wrong += thrown.value != arg && thrown.value != arg + 1;
	}
}

uint64_t traps()
{
	shunt_stats stats;

	shunt_get_stats(&stats);
	return stats.traps;
}

/* At least @least from each path, and until there were enough updates, and traps on the way. */
void throw_while_updating(unsigned long least)
{
	Counts counts[16] = {};
	uint64_t first = traps();
	shunt_ways ways;
	pthread_t thread;

	shunt_get_ways(&ways);
	bool is_int3 = ways.poke[0] == 'i';
	path_hook = throw_it;
	if (!ok(!pthread_create(&thread, nullptr, keep_updating, nullptr), "an updating thread"))
		return;
	auto is_enough = [&] { return updates > ENOUGH && (!is_int3 || traps() - first >= 100); };
	for (unsigned long i = 0; i < least || (!is_enough() && i < 1000000); i++)
		for (size_t p = 0; p < nr_paths; p++)
			throw_once(paths[p], static_cast<long>(i), &counts[p]);
	stop = true;
	pthread_join(thread, nullptr);
	for (size_t p = 0; p < nr_paths; p++)
		ok(counts[p].caught == counts[p].thrown &&
			   counts[p].destroyed == counts[p].thrown && !counts[p].wrong,
		   "%s: %lu thrown, %lu caught, %lu destructors, %lu wrong", paths[p].name,
		   counts[p].thrown, counts[p].caught, counts[p].destroyed, counts[p].wrong);
	ok(!failures && is_enough(), "meanwhile %lu updates, %lu failed; %llu traps",
	   updates.load(), failures.load(), static_cast<unsigned long long>(traps() - first));
}

/* ---------------------------------------------- from a handler, in the middle */

uintptr_t veneer;

void on_step(int, siginfo_t *, void *context)
{
	uintptr_t ip = context_ip(context);

	if ((veneer && ip - veneer < VENEER_BYTES) || path_in_trampoline(ip))
		throw Thrown{-1};
}

KEEP long stepped(const path &p, unsigned long *destroyed)
{
	Guard guard{destroyed};

	return path_step(p.function, 1) + 1;
}

/* The handler does not return, so its mask stays; the trap flag it had taken from us. */
void let_sigtrap_in()
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void throw_from_handler(const path &p, unsigned long n)
{
	unsigned long destroyed = 0, caught = 0;

	veneer = 0;
	if (p.far && !path_veneer(&p, &veneer))
		ok(false, "%s: the call is not far", p.name);
	for (unsigned long i = 0; i < n; i++) {
		try {
			stepped(p, &destroyed);
		} catch (const Thrown &thrown) {
			caught += thrown.value == -1;
			let_sigtrap_in();
		}
	}
	ok(caught == n && destroyed == n,
	   "%s: thrown in a handler in the middle of it: %lu of %lu caught, %lu destructors",
	   p.name, caught, n, destroyed);
}

[[maybe_unused]] bool is_passage(const path &p)
{
	return p.far || p.name[1] == 'r'; /* trampoline */
}

[[noreturn]] void on_terminate()
{
	_exit(42);
}

/* In a process of its own: 0 where all are caught, 42 where the first one is not. */
int from_veneers(bool area)
{
	std::set_terminate(on_terminate);
	for (size_t p = 0; p < nr_paths; p++) {
		if (!paths[p].far)
			continue;
		throw_from_handler(paths[p], 1);
		if (path_in_area(veneer) != area)
			return 1;
	}
	return tap_failed;
}

[[maybe_unused]] void run_children(const char *bare)
{
	int status = path_child(nullptr, "pool", "1");

	ok(!status, "veneers of a pool, SHUNT_FRAMES=1: thrown in a handler, caught (%#x)", status);
	status = path_child(nullptr, "pool", "0");
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 42,
	   "control: SHUNT_FRAMES=0: no handler is found from within one (%#x)", status);
	status = path_child(nullptr, "area", nullptr);
	ok(!status, "the program's veneers, in a process of its own: caught (%#x)", status);
	status = path_child(bare, "area", nullptr);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 42,
	   "control: without call frame information no handler is found (%#x)", status);
}

long same(long arg)
{
	return arg;
}

} // namespace

int main(int argc, char **argv)
{
	struct sigaction action = {};
	bool pool = argc > 1 && !strcmp(argv[1], "pool");
	bool good;

	action.sa_sigaction = on_step;
	action.sa_flags = SA_SIGINFO;
	path_hook = same;
	good = !sigaction(SIGTRAP, &action, nullptr) && (!pool || paths_fill_area()) &&
	       !paths_update(1) && !paths_update(0);
	if (pool || (argc > 1 && !strcmp(argv[1], "area")))
		return good ? from_veneers(!pool) : 1;
	ok(good, "keys have far targets");
#if defined(SUITE_TSAN)
	skip("thrown in a handler", "the runtime is stepped through too, and counts handlers");
#else
	for (size_t p = 0; p < nr_paths; p++)
		if (is_passage(paths[p]))
			throw_from_handler(paths[p], CPU_HAS_TRAPS ? 100 : 20);
	run_children(argv[1]);
#endif
	throw_while_updating(CPU_HAS_TRAPS ? 2000 : 200); /* of an emulator */
	return tap_done();
}
