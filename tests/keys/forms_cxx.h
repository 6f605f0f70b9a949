/* SPDX-License-Identifier: MIT */
/*
 * What C++ makes one of that every file has: inline functions, templates, members of
 * classes, local statics. Their sites and the entries of these come and go together.
 */
#ifndef SHUNT_TESTS_FORMS_CXX_H
#define SHUNT_TESTS_FORMS_CXX_H

#include "forms.h"

__attribute__((noinline)) inline bool comdat_unlikely_false()
{
	return static_branch_unlikely(&key_false);
}

template <int N> __attribute__((noinline)) bool template_likely_true()
{
	__asm__ volatile("# %c0" : : "i"(N));
	return static_branch_likely(&key_true);
}

template <class T> struct holder {
	static bool unlikely_element()
	{
		if (static_branch_unlikely(&array_false[3]))
			return true;
		return false;
	}
	bool operator()() const
	{
		auto test = [] { return static_branch_likely(&array_true[1]); };

		return test();
	}
};

template <class T> __attribute__((noinline)) bool call_holder()
{
	return holder<T>()();
}

#endif
