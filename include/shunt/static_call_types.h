/* SPDX-License-Identifier: MIT */
/*
 * The types of static calls: which function may take the place of which, what returns 0, and what
 * does not compile. Part of <shunt/static_call.h>, which includes it; nothing here is used by hand.
 */
#ifndef SHUNT_STATIC_CALL_TYPES_H
#define SHUNT_STATIC_CALL_TYPES_H

#ifndef SHUNT_STATIC_CALL_H
#error "include <shunt/static_call.h>"
#endif

#ifdef __cplusplus

/* What the result of a function type is, and whether STATIC_CALL_RET0 returns a 0 of it. */
extern "C++" {
template <class __shunt_t> struct __shunt_zero {
	enum { __good = __is_enum(__shunt_t) && sizeof(__shunt_t) <= 8 };
};
template <class __shunt_t> struct __shunt_zero<const __shunt_t> : __shunt_zero<__shunt_t> {
};
template <class __shunt_t> struct __shunt_zero<__shunt_t *> {
	enum { __good = 1 };
};
template <> struct __shunt_zero<void> {
	enum { __good = 1 };
};
#define __SHUNT_ZERO(type)                           \
	template <> struct __shunt_zero<type> {      \
		enum { __good = sizeof(type) <= 8 }; \
	};
__SHUNT_ZERO(bool)
__SHUNT_ZERO(char)
__SHUNT_ZERO(signed char)
__SHUNT_ZERO(unsigned char)
__SHUNT_ZERO(short)
__SHUNT_ZERO(unsigned short)
__SHUNT_ZERO(int)
__SHUNT_ZERO(unsigned)
__SHUNT_ZERO(long)
__SHUNT_ZERO(unsigned long)
__SHUNT_ZERO(long long)
__SHUNT_ZERO(unsigned long long)
__SHUNT_ZERO(wchar_t)
__SHUNT_ZERO(char16_t)
__SHUNT_ZERO(char32_t)
__SHUNT_ZERO(decltype(nullptr))
#ifdef __cpp_char8_t
__SHUNT_ZERO(char8_t)
#endif
#undef __SHUNT_ZERO

template <class __shunt_t> struct __shunt_is_void {
	enum { __value = 0 };
};
template <> struct __shunt_is_void<void> {
	enum { __value = 1 };
};
template <class __shunt_f> struct __shunt_result {
	enum { __zero = 0, __none = 0 };
};
#define __SHUNT_RESULT(...)                                                                 \
	template <class __shunt_r, class... __shunt_a> struct __shunt_result<__VA_ARGS__> { \
		enum {                                                                      \
			__zero = __shunt_zero<__shunt_r>::__good,                           \
			__none = __shunt_is_void<__shunt_r>::__value                        \
		};                                                                          \
	};
__SHUNT_RESULT(__shunt_r(__shunt_a...))
__SHUNT_RESULT(__shunt_r(__shunt_a..., ...))
#ifdef __cpp_noexcept_function_type
__SHUNT_RESULT(__shunt_r(__shunt_a...) noexcept)
__SHUNT_RESULT(__shunt_r(__shunt_a..., ...) noexcept)
#endif
#undef __SHUNT_RESULT
/* (Deduced: g++ warns of attributes on an argument that is written.) */
template <class __shunt_f> constexpr bool __shunt_has_zero(__shunt_f *)
{
	return __shunt_result<__shunt_f>::__zero;
}
template <class __shunt_f> constexpr bool __shunt_is_constant(__shunt_f *)
{
	return true;
}
template <class __shunt_f> constexpr bool __shunt_has_none(__shunt_f *)
{
	return __shunt_result<__shunt_f>::__none;
}
}

/*
 * STATIC_CALL_RET0 converts to every function pointer whose function can return it. (All of this is
 * C++ also where the header is included within extern "C".)
 */
extern "C++" {
struct __static_call_ret0 {
	static void *address()
	{
		return __SHUNT_ADDRESS(__static_call_return0);
	}
	operator void *() const
	{
		return address();
	}
	template <class __shunt_f> operator __shunt_f *() const
	{
		static_assert(__shunt_result<__shunt_f>::__zero,
			      "a RET0 static call's function must return an integer or a pointer");
		return reinterpret_cast<__shunt_f *>(address());
	}
};
}
#define STATIC_CALL_RET0 (__static_call_ret0())

/* What static_call_query() returns: a pointer to a function, that is a void * to who wants one. */
extern "C++" {
template <class __shunt_pointer> struct __shunt_queried {
	void *__address;

	operator __shunt_pointer() const
	{
		return reinterpret_cast<__shunt_pointer>(__address);
	}
	explicit operator bool() const
	{
		return __address != nullptr;
	}
	operator void *() const
	{
		return __address;
	}
	bool __is(__shunt_pointer __b) const
	{
		return static_cast<__shunt_pointer>(*this) == __b;
	}
	bool __is(const void *__b) const
	{
		return __address == __b;
	}
	bool __is(decltype(nullptr)) const
	{
		return !__address;
	}
	bool __is(long __value) const /* what NULL is */
	{
		return !__address && !__value;
	}
	bool __is(const __static_call_ret0 &) const
	{
		return __address == __static_call_ret0::address();
	}
	friend bool operator==(const __shunt_queried &__a, const __shunt_queried &__b)
	{
		return __a.__address == __b.__address;
	}
	friend bool operator!=(const __shunt_queried &__a, const __shunt_queried &__b)
	{
		return __a.__address != __b.__address;
	}
	/* Templates, which fit better than the pointers' own. */
	template <class __shunt_t>
	friend bool operator==(const __shunt_queried &__a, const __shunt_t &__b)
	{
		return __a.__is(__b);
	}
	template <class __shunt_t>
	friend bool operator!=(const __shunt_queried &__a, const __shunt_t &__b)
	{
		return !__a.__is(__b);
	}
	template <class __shunt_t>
	friend bool operator==(const __shunt_t &__a, const __shunt_queried &__b)
	{
		return __b.__is(__a);
	}
	template <class __shunt_t>
	friend bool operator!=(const __shunt_t &__a, const __shunt_queried &__b)
	{
		return !__b.__is(__a);
	}
};
}

#define __SHUNT_SAME_TYPE(tramp, func) (func)
#define __SHUNT_TYPE(func)             __typeof__(*(func))
#define __SHUNT_REFUSE_CONST(name)     __SHUNT_NEED_SEMICOLON

#else

#define STATIC_CALL_RET0 (__extension__(__SHUNT_ADDRESS(__static_call_return0)))

/* (The default does not fit: the error names the type that is expected.) */
struct shunt_function_of_another_type {
	char nothing;
};
#define __SHUNT_SAME_TYPE(tramp, func) \
	_Generic((func),                \
		__typeof__(&tramp) : (func), \
		void * : (func),        \
		default : __SHUNT_UNQUALIFIED(tramp, func))

/*
 * In gcc's C the attributes const and noreturn are qualifiers of what a pointer to a function leads
 * to, and no such type is the same as another for _Generic. A key of a noreturn function is one,
 * too. One of a const function is not: the compiler would take a call's result for that of an
 * earlier one, over an update. (The type of a pointer cannot be had without the qualifier.)
 */
#ifdef __clang__
#define __SHUNT_UNQUALIFIED(tramp, func) ((struct shunt_function_of_another_type){0})
#define __SHUNT_TYPE(func)               __typeof__(*(func))
#define __SHUNT_REFUSE_CONST(name)       __SHUNT_NEED_SEMICOLON
#else
#define __SHUNT_UNQUALIFIED(tramp, func)                                              \
	__builtin_choose_expr(                                                        \
		__builtin_types_compatible_p(__typeof__(tramp), __typeof__(*(func))), \
		(__typeof__(&tramp))(func), ((struct shunt_function_of_another_type){0}))
#define __SHUNT_TYPE(func)                                                             \
	__typeof__(__builtin_choose_expr(                                              \
		__builtin_types_compatible_p(__typeof__(func), __typeof__(*(func))) && \
			__builtin_has_attribute(func, __const__),                      \
		func, *(func)))
#define __SHUNT_REFUSE_CONST(name)                                                              \
	__SHUNT_STATIC_ASSERT(!__builtin_has_attribute(STATIC_CALL_TRAMP(name), __const__),     \
			      "a static call's type is that of a pointer to a const function: " \
			      "name the function itself")
#endif

#endif

/*
 * A NULL or RET0 key cannot keep what these attributes promise about a function,
 * and the compiler acts on the promise at each call: refuse to compile. (The
 * clang branch is an overload that clashes exactly where func is noreturn, the
 * only such attribute that clang carries over with a type.)
 */
#if defined(__clang__) && defined(__cplusplus)
#define __SHUNT_REFUSE_PROMISES(name, func)                                          \
	static_assert(!__is_same(__typeof__(*(func)),                                \
				 __typeof__(*(func)) __attribute__((__noreturn__))), \
		      "a NULL or RET0 static call cannot have a noreturn type")
#elif defined(__clang__)
#define __SHUNT_REFUSE_PROMISES(name, func)                                                    \
	char __attribute__((__overloadable__)) __SHUNT_PASTE(                                  \
		a_NULL_or_RET0_static_call_cannot_be_noreturn__, name)(__typeof__(*(func)) *); \
	short __attribute__((__overloadable__))                                                \
	__SHUNT_PASTE(a_NULL_or_RET0_static_call_cannot_be_noreturn__,                         \
		      name)(__typeof__(*(func)) __attribute__((__noreturn__)) *)
#else
#define __SHUNT_REFUSE_PROMISES(name, func)                                                 \
	__SHUNT_STATIC_ASSERT(!__builtin_has_attribute(func, __noreturn__) &&               \
				      !__builtin_has_attribute(*(func), __noreturn__),      \
			      "a NULL or RET0 static call cannot have a noreturn type");    \
	__SHUNT_STATIC_ASSERT(!__builtin_has_attribute(func, __returns_nonnull__) &&        \
				      !__builtin_has_attribute(func, __assume_aligned__) && \
				      !__builtin_has_attribute(func, __alloc_align__),      \
			      "a NULL or RET0 static call cannot keep a promise about its result")
#endif

/*
 * A NULL key has no result: refuse a function that returns one. And RET0 clears one
 * integer register: refuse a result that is not, or not only, there. C has no name for
 * the result of a function type. That it is void shows where a compiler looks at the result
 * alone: gcc drops warn_unused_result from a function without one; clang compares a function
 * with one whose parameters are not known, in a cast, by the result. (Not with -w.)
 *
 * For RET0 a comparison with types that can be named has to do. It sees a floating-point, complex
 * or 128-bit result of a function without variable arguments, whose parameters are none that C
 * promotes (char, short, _Bool, float), or up to three float. C23 has no type of functions that
 * leaves the parameters open: there it sees the result only without parameters, or with up to three
 * float or double. It does not see structures and unions, of which there are too many: those are
 * for the user to leave alone.
 */
#define __SHUNT_NO_VALUE "a NULL static call has no value: its function must return void"
#define __SHUNT_NO_ZERO  "a RET0 static call's function must return an integer or a pointer"
#ifdef __cplusplus
#define __SHUNT_STATIC_ASSERT static_assert
#define __SHUNT_REFUSE_VALUE(func)                                                   \
	static_assert(__shunt_has_none(static_cast<__typeof__(*(func)) *>(nullptr)), \
		      __SHUNT_NO_VALUE)
#define __SHUNT_HAS_ZERO(func) __shunt_has_zero(static_cast<__typeof__(*(func)) *>(nullptr))
#else
#define __SHUNT_STATIC_ASSERT __extension__ _Static_assert

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#if __STDC_VERSION__ > 201710L
#define __SHUNT_RETURNING_OTHERS(name, type)                                     \
	__extension__ typedef type __shunt_returning_##name##_4(double);         \
	__extension__ typedef type __shunt_returning_##name##_5(double, double); \
	__extension__ typedef type __shunt_returning_##name##_6(double, double, double)
#else
#define __SHUNT_RETURNING_OTHERS(name, type) \
	__extension__ typedef type __shunt_returning_##name##_4()
#endif
#define __SHUNT_RETURNING(name, type)                                                 \
	__extension__ typedef type __shunt_returning_##name();                        \
	__extension__ typedef type __shunt_returning_##name##_1(float);               \
	__extension__ typedef type __shunt_returning_##name##_2(float, float);        \
	__extension__ typedef type __shunt_returning_##name##_3(float, float, float); \
	__SHUNT_RETURNING_OTHERS(name, type)
__SHUNT_RETURNING(float, float);
__SHUNT_RETURNING(double, double);
__SHUNT_RETURNING(ldouble, long double);
__SHUNT_RETURNING(cfloat, _Complex float);
__SHUNT_RETURNING(cdouble, _Complex double);
__SHUNT_RETURNING(cldouble, _Complex long double);
#ifdef __SIZEOF_INT128__
__SHUNT_RETURNING(int128, __int128);
__SHUNT_RETURNING(uint128, unsigned __int128);
#else
__SHUNT_RETURNING(int128, double);
__SHUNT_RETURNING(uint128, double);
#endif
/* Returns none, of parameters says nothing: C23, in which () is (void), has (...) for that. */
#ifdef __clang__
#if __STDC_VERSION__ > 201710L && __clang_major__ >= 15
typedef void __shunt_returning_none(...);
#else
typedef void __shunt_returning_none();
#endif
#endif
#pragma GCC diagnostic pop

#if __STDC_VERSION__ > 201710L
#define __SHUNT_RETURNS_OTHERS(func, name)                                                  \
	(__builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name##_4) || \
	 __builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name##_5) || \
	 __builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name##_6))
#else
#define __SHUNT_RETURNS_OTHERS(func, name) 0
#endif
#define __SHUNT_RETURNS(func, name)                                                         \
	(__builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name) ||     \
	 __builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name##_1) || \
	 __builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name##_2) || \
	 __builtin_types_compatible_p(__typeof__(*(func)), __shunt_returning_##name##_3) || \
	 __SHUNT_RETURNS_OTHERS(func, name))
#define __SHUNT_HAS_ZERO(func)                                                                \
	(__extension__(!__SHUNT_RETURNS(func, float) && !__SHUNT_RETURNS(func, double) &&     \
		       !__SHUNT_RETURNS(func, ldouble) && !__SHUNT_RETURNS(func, cfloat) &&   \
		       !__SHUNT_RETURNS(func, cdouble) && !__SHUNT_RETURNS(func, cldouble) && \
		       !__SHUNT_RETURNS(func, int128) && !__SHUNT_RETURNS(func, uint128)))
#ifdef __clang__
/* From clang 16 on that warning has a part that compares all else too. */
#if __has_warning("-Wcast-function-type-strict")
#define __SHUNT_COMPARE_RESULTS                                    \
	_Pragma("clang diagnostic error \"-Wcast-function-type\"") \
		_Pragma("clang diagnostic ignored \"-Wcast-function-type-strict\"")
#else
#define __SHUNT_COMPARE_RESULTS _Pragma("clang diagnostic error \"-Wcast-function-type\"")
#endif
#define __SHUNT_REFUSE_VALUE(func)                                                      \
	_Pragma("clang diagnostic push") __SHUNT_COMPARE_RESULTS __SHUNT_STATIC_ASSERT( \
		sizeof((__shunt_returning_none *)(func)) != 0, __SHUNT_NO_VALUE);       \
	_Pragma("clang diagnostic pop") __SHUNT_NEED_SEMICOLON
#else
#define __SHUNT_REFUSE_VALUE(func)                                                                 \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wattributes\"")          \
		__SHUNT_STATIC_ASSERT(!__builtin_has_attribute(__typeof__(*(func)) __attribute__(( \
								       __warn_unused_result__)),   \
							       __warn_unused_result__),            \
				      __SHUNT_NO_VALUE);                                           \
	_Pragma("GCC diagnostic pop") __SHUNT_NEED_SEMICOLON
#endif
#endif
#define __SHUNT_REFUSE_NO_ZERO(func) __SHUNT_STATIC_ASSERT(__SHUNT_HAS_ZERO(func), __SHUNT_NO_ZERO)

#endif /* SHUNT_STATIC_CALL_TYPES_H */
