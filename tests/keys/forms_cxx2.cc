// SPDX-License-Identifier: MIT
//
// A second file with the functions of forms_cxx.h: the linker keeps one of each.
#include "forms_cxx.h"

namespace
{

TESTS(cxx2_false, key_false)
TESTS(cxx2_true, key_true)
TESTS(cxx2_lib, lib_false)

template <class T, int N> bool local_template()
{
	return static_branch_unlikely(&exe_false);
}

const test_fn of_false[] = {NR_TESTS(cxx2_false), comdat_unlikely_false, inline_false, nullptr};
const test_fn of_true[] = {NR_TESTS(cxx2_true), template_likely_true<1>,
			   template_likely_true<sizeof("cxx2")>, inline_true, nullptr};
const test_fn of_lib[] = {NR_TESTS(cxx2_lib), nullptr};
const test_fn of_exe[] = {local_template<int, 1>, local_template<long, 2>, nullptr};
const test_fn of_element[] = {holder<int>::unlikely_element, holder<char>::unlikely_element,
			      nullptr};
const test_fn of_element_true[] = {call_holder<int>, call_holder<char>, nullptr};

} // namespace

extern "C" const struct tests tests_cxx2 = {
	of_false,
	of_true,
	of_exe,
	nullptr,
	of_lib,
	nullptr,
	{nullptr, nullptr, nullptr, of_element},
	{nullptr, of_element_true, nullptr, nullptr},
};
