/* SPDX-License-Identifier: MIT */
/*
 * Static calls from C++17: what a C++ function can be and a C function cannot.
 */
#include <atomic>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "tap.h"

#define NOINLINE __attribute__((noinline))

/* -------------------------------------------- a namespace, overloads, noexcept */

namespace maths
{
NOINLINE int half(int x)
{
	return x / 2;
}

NOINLINE double half(double x)
{
	return x / 2;
}

NOINLINE int third(int x) noexcept
{
	return x / 3;
}

NOINLINE double third(double x)
{
	return x / 3;
}

NOINLINE int quarter(int x) noexcept
{
	return x / 4;
}

NOINLINE int eighth(int x)
{
	return x / 8;
}

DEFINE_STATIC_CALL(cxx_plain, eighth);
DEFINE_STATIC_CALL_RET0(cxx_ret0, eighth);
EXPORT_STATIC_CALL(cxx_plain);
} // namespace maths

static void test_functions()
{
	using namespace maths;
	int ret = static_call_update(cxx_plain, static_cast<int (*)(int)>(half));

	ok(ret == 0 && static_call(cxx_plain)(24) == 12, "an overload, picked by a cast");
	/* The type of the key picks it too. */
	ret = static_call_update(cxx_plain, third);
	ok(ret == 0 && static_call(cxx_plain)(24) == 8, "an overload, picked by the key's type");
	ret = static_call_update(cxx_plain, quarter);
	ok(ret == 0 && static_call(cxx_plain)(24) == 6, "a noexcept function for a plain key");
	ok(static_call_query(cxx_plain) == reinterpret_cast<void *>(quarter), "query");
	ret = static_call_update(
		cxx_plain, +[](int x) { return x + 1; });
	ok(ret == 0 && static_call(cxx_plain)(24) == 25, "a lambda");
	ret = static_call_update(cxx_plain, [](int x) { return x + 2; });
	ok(ret == 0 && static_call(cxx_plain)(24) == 26, "a lambda that converts by itself");
	ret = static_call_update(cxx_plain, STATIC_CALL_RET0);
	ok(ret == 0 && static_call(cxx_plain)(24) == 0, "STATIC_CALL_RET0");
	ok(static_call_query(cxx_plain) == STATIC_CALL_RET0, "query of RET0");
	ret = static_call_update(cxx_plain, eighth);
	ok(ret == 0 && static_call(cxx_plain)(24) == 3, "and back");
	ok(static_call(cxx_ret0)(24) == 0, "a RET0 key");
	ret = static_call_update(cxx_ret0, quarter);
	ok(ret == 0 && static_call(cxx_ret0)(24) == 6, "a RET0 key, updated");
	shunt_set_log(nullptr, nullptr);
	ok(static_call_update(cxx_plain, nullptr) == -EINVAL && static_call(cxx_plain)(24) == 3,
	   "nullptr for a key that is not nullable");
}

/* ------------------------------------------------------ static member functions */

struct counter {
	static int count;
	int mine;

	NOINLINE static void add(int n)
	{
		count += n;
	}
	NOINLINE static void subtract(int n)
	{
		count -= n;
	}
};

int counter::count;

DEFINE_STATIC_CALL_NULL(cxx_count, counter::add);

static void test_members()
{
	int ret;

	static_call_cond(cxx_count)(5);
	ok(counter::count == 0 && !static_call_query(cxx_count), "a NULL key of a member function");
	ret = static_call_update(cxx_count, counter::add);
	static_call_cond(cxx_count)(5);
	ok(ret == 0 && counter::count == 5, "a static member function");
	ret = static_call_update(cxx_count, &counter::subtract);
	static_call_cond(cxx_count)(7);
	ok(ret == 0 && counter::count == -2, "another, by its address");
	ret = static_call_update(cxx_count, nullptr);
	static_call_cond(cxx_count)(7);
	ok(ret == 0 && counter::count == -2, "nullptr");
	ret = static_call_update(cxx_count, NULL);
	ok(ret == 0, "NULL");
}

/* -------------------------------------------------------- references and objects */

NOINLINE static std::string join(const std::string &a, std::string b)
{
	return a + "-" + b;
}

NOINLINE static std::string join_reversed(const std::string &a, std::string b)
{
	return b + "+" + a;
}

NOINLINE static std::unique_ptr<int> pass(std::unique_ptr<int> p)
{
	return p;
}

NOINLINE static int &bigger(int &a, int &b)
{
	return a > b ? a : b;
}

DEFINE_STATIC_CALL(cxx_join, join);
DEFINE_STATIC_CALL(cxx_pass, pass);
DEFINE_STATIC_CALL(cxx_bigger, bigger);

static void test_objects()
{
	int a = 1, b = 2, ret;
	auto p = static_call(cxx_pass)(std::make_unique<int>(42));

	ok(static_call(cxx_join)("left", "right") == "left-right", "objects by value");
	ret = static_call_update(cxx_join, join_reversed);
	ok(ret == 0 && static_call(cxx_join)("left", "right") == "right+left",
	   "objects by value, updated");
	ok(p && *p == 42, "an object that can only be moved");
	static_call(cxx_bigger)(a, b) = 7;
	ok(b == 7, "a reference returned");
}

/* ---------------------------------------------------------------------- exceptions */

NOINLINE static int throws(int x)
{
	throw std::runtime_error("thrown " + std::to_string(x));
}

NOINLINE static int throws_other(int x)
{
	throw std::out_of_range("thrown " + std::to_string(x));
}

DEFINE_STATIC_CALL(cxx_throws, throws);

NOINLINE static std::string caught(int x)
{
	std::string destroyed = "thrown " + std::to_string(x);

	try {
		static_call(cxx_throws)(x);
	} catch (const std::exception &e) {
		return e.what() == destroyed ? e.what() : "wrong";
	}
	return "nothing";
}

NOINLINE static int tail_throws(int x)
{
	return static_call(cxx_throws)(x);
}

static void test_exceptions()
{
	std::atomic<bool> stop{false};
	std::atomic<long> wrong{0}, calls{0};
	int errors = 0;
	bool through_tail = false;

	ok(caught(1) == "thrown 1", "an exception through a static call");
	try {
		tail_throws(2);
	} catch (const std::runtime_error &e) {
		through_tail = true;
	}
	ok(through_tail, "through a tail call");

	/* Some of these calls trap: the unwinder then sees an emulated call. */
	std::thread thrower([&] {
		while (!stop) {
			wrong += caught(3) != "thrown 3";
			calls++;
		}
	});
	while (!calls)
		std::this_thread::yield();
	for (int i = 0; i < 2000; i++)
		errors += static_call_update(cxx_throws, i & 1 ? throws : throws_other) != 0;
	stop = true;
	thrower.join();
	ok(errors == 0 && wrong == 0, "%ld exceptions during 2000 updates", calls.load());
}

/* ------------------------------------------------------------------ inspection */

static void test_sites()
{
	int inlined = 0;
	int ret = shunt_for_each_site(
		"cxx_join",
		[](const shunt_site_info *site, void *arg) {
			*static_cast<int *>(arg) += site->state == SHUNT_SITE_INLINE;
			return 0;
		},
		&inlined);

	ok(ret == 0 && inlined >= 2, "sites in C++ code are inline: %d", inlined);
}

int main()
{
	test_functions();
	test_members();
	test_objects();
	test_exceptions();
	test_sites();
	return tap_done();
}
