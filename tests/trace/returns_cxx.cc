/* SPDX-License-Identifier: MIT */
/*
 * Returns under what C++ does with its stack, the whole program traced: exceptions thrown and
 * rethrown through traced functions and destructors, and those that nobody catches; coroutines that
 * are resumed from other functions, and other threads, than those that they began in.
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
#include "graph.h"
#include "thrown.h"

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
#endif

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
#else
	skip("coroutines", "this compiler has none");
#endif
	graph_end();
	return tap_done();
}
