/* SPDX-License-Identifier: MIT */
/*
 * Feature flags in C++17: a flag is a static key, which costs a nop where it is
 * tested, and what it switches is a static call, which costs a direct call.
 *
 *	c++ -std=c++17 feature_flag.cc $(pkg-config --cflags --libs shunt) && ./a.out
 */
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using basket = std::vector<int>;

static int list_price(const basket &items)
{
	int sum = 0;
	for (int price : items)
		sum += price;
	return sum;
}

static int with_discount(const basket &items)
{
	const int sum = list_price(items);
	return items.size() >= 3 ? sum - sum / 10 : sum;
}

DEFINE_STATIC_KEY_FALSE(show_savings);
DEFINE_STATIC_CALL(total, list_price);

static void check(int err)
{
	if (err)
		throw std::runtime_error(shunt_last_error());
}

/* On while it lives; nests, because enabling counts. */
class savings_shown
{
      public:
	savings_shown()
	{
		check(static_branch_inc(&show_savings));
	}
	~savings_shown()
	{
		if (static_branch_dec(&show_savings))
			std::cerr << shunt_last_error() << '\n';
	}
	savings_shown(const savings_shown &) = delete;
	savings_shown &operator=(const savings_shown &) = delete;
};

static void check_out(const std::string &who, const basket &items)
{
	const int price = static_call(total)(items);

	std::cout << who << " pays " << price;
	if (static_branch_unlikely(&show_savings))
		std::cout << ", saves " << list_price(items) - price;
	std::cout << '\n';
}

int main()
{
	check_out("Ada", {100, 50, 50});
	check(static_call_update(total, with_discount));
	check_out("Bob", {100, 50, 50});
	{
		const savings_shown on;
		check_out("Cem", {100, 50, 50});
	}
	check_out("Dee", {10});
	return 0;
}
