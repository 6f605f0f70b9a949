// SPDX-License-Identifier: MIT
// C++: std::thread inherits a mask with everything blocked, meets a poke, and throws.
#include <csignal>
#include <ctime>
#include <thread>

#include <sched.h>

#include "../api/tap.h"
#include "rows.h"

static void meet_and_throw()
{
	meet();
	throw 4711;
}

void by_cxx()
{
	sigset_t set;
	int caught = 0;

	sigfillset(&set);
	CHECK(!pthread_sigmask(SIG_SETMASK, &set, nullptr));
	std::thread([&caught] {
		try {
			meet_and_throw();
		} catch (int thrown) {
			caught = thrown;
		}
	}).join();
	CHECK(caught == 4711);
}
