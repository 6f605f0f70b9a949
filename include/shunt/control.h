/* SPDX-License-Identifier: MIT */
/*
 * Keys by their names: what `shunt set PID KEY=VALUE` does from outside, and a program may do from
 * its own configuration; and the agent, a thread through which the `shunt` tool looks into the
 * process, traces it and sets its keys (libshunt-agent, pkg-config shunt-agent).
 */
#ifndef SHUNT_CONTROL_H
#define SHUNT_CONTROL_H

#include <stddef.h>

#include <shunt/module.h>
#include <shunt/static_call.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One function that a static call may be set to by name. Its fields belong to libshunt. */
struct shunt_choice {
	const char *name;
	struct static_call_key *key;
	void (*func)(void);
	struct shunt_choice *next;
	void *reserved;
};

/*
 * What STATIC_CALL_CHOICE() calls when its module is loaded and unloaded. Where the update lock
 * cannot be had (a module that is loaded in a signal handler on top of an update) a message says
 * so, and there is no such choice.
 */
SHUNT_API void shunt_choice_add(struct shunt_choice *choice);
SHUNT_API void shunt_choice_remove(struct shunt_choice *choice);

/*
 * A key and what it is to be set to.
 *
 * @key: the name that it was defined with; where several modules have one of that name,
 * "MODULE:NAME", with the module's file name without its folder.
 *
 * @value: of a static key "on", "off", "+1" or "-1" (static_branch_enable(), _disable(), _inc(),
 * _dec()), or "1", "true", "0", "false" for on and off; of a static call the name of a choice, as
 * it was written in STATIC_CALL_CHOICE(), "NULL" where the key is nullable, "RET0" where it was
 * defined with DEFINE_STATIC_CALL_RET0(), or "initial": what it was defined with; the name of that
 * function, too, as shunt_for_each_key() has it, where no choice has that name.
 */
struct shunt_setting {
	const char *key;
	const char *value;
};

/*
 * Set @n keys together: all of them change, or none does.
 *
 * Returns 0; -ENOENT: no such key; -EINVAL: several of that name, a key twice, or a value that the
 * key does not take (a function that is no choice among them); or what static_call_update() and
 * static_branch_enable() return, for the same reasons. shunt_last_error() has the words. Any
 * thread; not in a signal handler.
 */
SHUNT_API int shunt_set_keys(const struct shunt_setting *settings, size_t n) __SHUNT_CHECKED;

/* A choice, for shunt_for_each_choice(). @module: file name of the module that defines the key. */
struct shunt_choice_info {
	const char *key;
	const char *module;
	const char *name;
	void *func;
};

/*
 * Call @fn for each registered choice, in the order in which they were registered. It is given a
 * snapshot, whose strings stay until it returns; anything but 0 from it ends the walk and is
 * returned. Returns 0, what @fn returned, -ENOMEM, or -EDEADLK from within an update.
 */
SHUNT_API int shunt_for_each_choice(int (*fn)(const struct shunt_choice_info *info, void *arg),
				    void *arg);

/*
 * In libshunt-agent. Start the agent: one thread, with all signals blocked but those that its own
 * instructions raise and libshunt's own, asleep until somebody connects to its socket; only the
 * user of the process and root can. It goes on in children of fork(), with a thread and a socket of
 * their own, unless the environment has SHUNT_AGENT_FORK=0. It starts by itself where the library
 * is loaded with SHUNT_AGENT=1 in the environment.
 *
 * Returns 0, also where it runs already; -EPERM in a program that runs with other rights than its
 * user's (set-user-ID), or where the folder for the socket is another user's; or what making the
 * socket or the thread failed with. shunt_last_error() has the words. Any thread; not in a signal
 * handler.
 */
SHUNT_API int shunt_agent_start(void) __SHUNT_CHECKED;

/*
 * End the agent: its sessions of tracing are taken back, its clients are disconnected, its socket
 * is removed. Waits for the request that runs. Returns 0; -EINVAL: it does not run. Any thread but
 * the agent's; not in a signal handler.
 */
SHUNT_API int shunt_agent_stop(void);

#ifdef __cplusplus
}
#endif

/*
 * STATIC_CALL_CHOICE(name, func): @func, a function of the key's type (anything else does not
 * compile), is one that shunt_set_keys() may set the static call @name to. At file scope, in any
 * module that has both declared; it counts as long as that module is loaded.
 */
#define STATIC_CALL_CHOICE(key, func)                 \
	__SHUNT_CHOICE_BEGIN                          \
	__SHUNT_CHOICE(key, func, #func, __COUNTER__) \
	__SHUNT_CHOICE_END __SHUNT_NEED_SEMICOLON
/* clang 22 warns of constructors, and of __COUNTER__ with -Wpedantic. */
#ifdef __clang__
#if __has_warning("-Wc2y-extensions")
#define __SHUNT_CHOICE_COUNTER _Pragma("clang diagnostic ignored \"-Wc2y-extensions\"")
#else
#define __SHUNT_CHOICE_COUNTER
#endif
#define __SHUNT_CHOICE_BEGIN                                                  \
	_Pragma("clang diagnostic push")                                      \
		_Pragma("clang diagnostic ignored \"-Wglobal-constructors\"") \
			__SHUNT_CHOICE_COUNTER
#define __SHUNT_CHOICE_END _Pragma("clang diagnostic pop")
#else
#define __SHUNT_CHOICE_BEGIN
#define __SHUNT_CHOICE_END
#endif
#define __SHUNT_CHOICE(key, func, text, number)                                  \
	__SHUNT_CHOICE2(key, func, text, __SHUNT_PASTE(__shunt_choice_, number), \
			__SHUNT_PASTE(__shunt_choice_add_, number),              \
			__SHUNT_PASTE(__shunt_choice_remove_, number))
#define __SHUNT_CHOICE2(choice_key, choice_func, text, choice, add, remove)                  \
	static struct shunt_choice choice = {text, __SHUNT_NULL, __SHUNT_NULL, __SHUNT_NULL, \
					     __SHUNT_NULL};                                  \
	static __SHUNT_UNTRACED __attribute__((__constructor__, __used__)) void add(void)    \
	{                                                                                    \
		choice.key = __SHUNT_KEY_ADDRESS(choice_key);                                \
		choice.func = __SHUNT_TYPED(choice_key, choice_func);                        \
		shunt_choice_add(&choice);                                                   \
	}                                                                                    \
	static __SHUNT_UNTRACED __attribute__((__destructor__, __used__)) void remove(void)  \
	{                                                                                    \
		shunt_choice_remove(&choice);                                                \
	}

#endif
