/* SPDX-License-Identifier: MIT */
/*
 * Returns under what C++ does with its stack, the whole program traced: exceptions thrown and
 * rethrown through traced functions and destructors, and those that nobody catches; coroutines that
 * are resumed from other functions, and other threads, than those that they began in, and that pass
 * on to each other by tail calls.
 *
 * Controls (SHUNT_CONTROL, by the linker's --wrap): "by_thread": activation records are a stack for
 * each thread, as a shadow stack is; "no_tail_rule": a tail call does not end the function before.
 * (A coroutine whose frames are resumed runs on the stack of whom resumes it, so by_thread tells it
 * right as well: what fails there are exceptions, which leave frames. And clang 14 has coroutines
 * call each other where gcc has them jump, so that no_tail_rule is seen with gcc alone.)
 */
#include <cstdlib>
#include <exception>
#include <execinfo.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>
#if __has_include(<coroutine>) && defined(__cpp_impl_coroutine)
#include <coroutine>
#endif

#include "../api/tap.h"
#include "../common/child.h"
#include "control.h"
#include "graph.h"
#include "thrown.h"
extern "C" {
#include "linux/entry/activation.h"
}

#define UNTRACED __attribute__((patchable_function_entry(0), noinline))

namespace
{

/* dive() has no return, all else has. */
UNTRACED bool throws(long depth)
{
	unsigned long n = static_cast<unsigned long>(depth) + 1;

	graph_reset();
	return catches<10>(depth) && recurse(7) == 7 &&
	       graph_counts.entries - graph_counts.returns == n &&
	       graph_counts.events[0].depth == 0;
}

[[noreturn]] UNTRACED void on_terminate()
{
	_exit(recurse(5) == 5 ? 3 : 4);
}

UNTRACED int throw_uncaught()
{
	long destroyed = 0;

	std::set_terminate(on_terminate);
	/* noexcept: the unwinder finds nobody. */
	[&]() noexcept { sink = dive<10>(1000, &destroyed); }();
	return 5;
}

#ifdef __cpp_impl_coroutine
struct Task {
	struct promise_type {
		long value = 0;
		Task get_return_object()
		{
			return {std::coroutine_handle<promise_type>::from_promise(*this)};
		}
		std::suspend_always initial_suspend() noexcept
		{
			return {};
		}
		std::suspend_always final_suspend() noexcept
		{
			return {};
		}
		std::suspend_always yield_value(long v)
		{
			value = v;
			return {};
		}
		void return_void()
		{
		}
		void unhandled_exception()
		{
			value = -1;
		}
	};
	std::coroutine_handle<promise_type> handle;
};

Task count_up(long to)
{
	for (long i = 0; i < to; i++)
		co_yield recurse(i % 5) + i;
	throw Thrown{1};
}

KEEP long resume_below(Task *task, long depth)
{
	long value;

	if (!depth) {
		task->handle.resume();
		return task->handle.promise().value;
	}
	value = resume_below(task, depth - 1);
	sink = value;
	return value;
}

UNTRACED void *resume_in_thread(void *task)
{
	return reinterpret_cast<void *>(resume_below(static_cast<Task *>(task), 2));
}

UNTRACED bool coroutines()
{
	unsigned long left;
	bool good = true;

	graph_reset();
	unsigned long entries = graph_entries, returns = graph_returns;
	Task task = count_up(200);
	for (long i = 0; i < 200; i++) {
		void *value = nullptr;
		pthread_t thread;

		if (i % 10 == 9 && !pthread_create(&thread, nullptr, resume_in_thread, &task))
			pthread_join(thread, &value);
		else
			value = reinterpret_cast<void *>(resume_below(&task, i % 7));
		good = reinterpret_cast<long>(value) == i % 5 + i && good;
	}
	good = resume_below(&task, 3) == -1 && good;
	task.handle.destroy();
	left = (graph_entries - entries) - (graph_returns - returns);
	diag("%lu entries, %lu without a return", graph_entries - entries, left);
	return good && left == 0;
}

/* One passes on to the other, and that back, always in the place of its own return. */
struct Pair;
struct Passes {
	std::coroutine_handle<> to;
	bool await_ready() noexcept
	{
		return false;
	}
	std::coroutine_handle<> await_suspend(std::coroutine_handle<> from) noexcept
	{
		(void)from;
		return to;
	}
	void await_resume() noexcept
	{
	}
};

struct Pair {
	Task one, other;
	long passed = 0;
};

Task pass(Pair *pair, bool first)
{
	for (;;) {
		sink = recurse(1);
		if (++pair->passed >= 1000)
			co_await std::suspend_always();
		co_await Passes{(first ? pair->other : pair->one).handle};
	}
}

UNTRACED bool passes()
{
	Pair pair;
	unsigned long entries = graph_entries, returns = graph_returns, left;

	pair.one = pass(&pair, true);
	pair.other = pass(&pair, false);
	pair.one.handle.resume();
	left = (graph_entries - entries) - (graph_returns - returns);
	diag("%lu entries, %lu without a return", graph_entries - entries, left);
	pair.one.handle.destroy();
	pair.other.handle.destroy();
	return pair.passed == 1000 && left == 0;
}
#endif

/* -------------------------------------------------------------------- controls */

DEFINE_CONTROL(is_by_thread, "by_thread");
DEFINE_CONTROL(has_no_tail_rule, "no_tail_rule");

extern "C" {
shunt_activation *__real_shunt_activation_find(uintptr_t sp, bool calls);
shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls);
shunt_activation *__real_shunt_activation_get(uintptr_t sp, bool calls);
shunt_activation *__wrap_shunt_activation_get(uintptr_t sp, bool calls);
}

thread_local shunt_activation stack_of_thread[4096] __attribute__((tls_model("initial-exec")));
thread_local unsigned height __attribute__((tls_model("initial-exec")));

/* A return is that of the last entry. */
QUIET_HOOK SHUNT_GENERAL_REGS shunt_activation *__wrap_shunt_activation_find(uintptr_t sp,
									     bool calls)
{
	if (is_by_thread)
		return height ? &stack_of_thread[--height] : nullptr;
	return __real_shunt_activation_find(sp, calls);
}

QUIET_HOOK SHUNT_GENERAL_REGS shunt_activation *__wrap_shunt_activation_get(uintptr_t sp,
									    bool calls)
{
	shunt_activation *a;

	if (is_by_thread)
		return height < 4096 ? &stack_of_thread[height++] : nullptr;
	a = __real_shunt_activation_get(sp, calls);
	if (a && has_no_tail_rule)
		a->mask = 0;
	return a;
}

} // namespace

UNTRACED int main()
{
	const rlimit no_core = {0, 0};

	setrlimit(RLIMIT_CORE, &no_core);
	graph_begin();
	ok(throws(0) && throws(2000), "exceptions through 2,000 traced functions");
	ok(throws(100) && throws(2000), "again");
	ok(in_child(throw_uncaught) == 3,
	   "one that nobody catches: std::terminate(), which goes on");
#ifdef __cpp_impl_coroutine
	ok(coroutines(), "a coroutine that is resumed at several depths, in several threads");
	ok(passes(), "two coroutines that pass on to each other a thousand times");
#else
	skip("coroutines", "this compiler has none");
	skip("two coroutines", "this compiler has none");
#endif
	graph_end();
	return tap_done();
}
