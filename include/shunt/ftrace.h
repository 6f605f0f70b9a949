/* SPDX-License-Identifier: MIT */
/*
 * Function tracing: callbacks at the entries of functions, and where they return, switched
 * while threads run in them. Names and meaning are those of Linux's <linux/ftrace.h>.
 *
 * A function can be traced where its compiler has left room at its entry: with
 * -fpatchable-function-entry=5 (or more), -pg -mfentry, clang's -fxray-instrument, or
 * -finstrument-functions; on aarch64 with -fpatchable-function-entry=1 (or more) alone. Such
 * functions are found in the files of all modules that are loaded, also those that do not use
 * Shunt, and of those that are loaded later: in all namespaces of dlmopen(), whichever of them the
 * libshunt is in (from glibc 2.35 on). shunt-ftrace(7) says more.
 *
 * Callbacks run on the thread that calls the function, in the place of that call: also in signal
 * handlers, in the C library's locks, in threads that begin or end. They must be async-signal-safe
 * where the functions that they trace are called in signal handlers, and must return: not
 * leave by longjmp() or an exception. Traceable functions that a callback calls are not traced for
 * any ops; a signal handler that runs on top of a callback is a context of its own, and is.
 *
 * What changes who is called (register, unregister, the filters) may be called from any thread,
 * and not from a signal handler; from within a callback it returns -EDEADLK. When it returns 0,
 * each call that begins afterwards is traced by the new state. On an error nothing has changed, and
 * shunt_last_error() says what failed.
 */
#ifndef SHUNT_FTRACE_H
#define SHUNT_FTRACE_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The registers at a function's entry or return: opaque. */
struct ftrace_regs;

struct ftrace_ops;

/*
 * @ip: the instruction at the function's entry from which it is called; @parent_ip: where the
 * function returns to; @ops: those that are called.
 */
typedef void (*ftrace_func_t)(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			      struct ftrace_regs *fregs);

#ifndef __cplusplus /* the kernel's name for a member, which is a word of C++ */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wc++-compat"
#endif
/* Who wants to be called. Beside @func, @private and @flags all is the library's, zero at first. */
struct ftrace_ops {
	ftrace_func_t func;
#ifdef __cplusplus
	void *private_;
#else
	void *private; /* the caller's own */
#endif
	unsigned long flags; /* FTRACE_OPS_FL_* and SHUNT_FTRACE_* */
	void *__state;
	void *__reserved[4];
};
#ifndef __cplusplus
#pragma GCC diagnostic pop
#endif

/*
 * Linux's flags, with which the callback may ask for what it always has here: all argument
 * registers, and a guard against recursion.
 */
#define FTRACE_OPS_FL_SAVE_REGS              (1ul << 0)
#define FTRACE_OPS_FL_SAVE_REGS_IF_SUPPORTED (1ul << 1)
#define FTRACE_OPS_FL_RECURSION              (1ul << 2)

/*
 * @func, with all that it calls, changes no vector or floating-point register: it is compiled
 * with -mgeneral-regs-only, or has this attribute, and calls nothing else. Then these
 * registers need not be saved around it, which takes longer than the rest of a call.
 *
 * clang for aarch64 has the option alone, and passes over the attribute with a warning: there it is
 * an error in a file that is not compiled with the option.
 */
#define SHUNT_FTRACE_GENERAL_REGS (1ul << 16)
#if !defined(__clang__) || !defined(__aarch64__)
#define SHUNT_GENERAL_REGS __attribute__((__target__("general-regs-only")))
#elif defined(__ARM_NEON)
#define SHUNT_GENERAL_REGS \
	_Pragma("GCC error \"SHUNT_GENERAL_REGS: clang needs -mgeneral-regs-only here\"")
#else
#define SHUNT_GENERAL_REGS
#endif

/*
 * From now on call @ops->func at the entry of each function that its filter takes (all that can
 * be traced, where none was set), in modules that are loaded later too. @ops must stay until
 * it is unregistered.
 *
 * Returns 0; -EBUSY: registered already; -EINVAL: no func; -ENOMEM, or what the system refuses
 * memory or this process's number with; what the poke failed with; or,
 * where no module's file could be read, so that no function is known, that error. A function that
 * cannot be traced is none of these: shunt_for_each_function(), and a message.
 */
SHUNT_API int register_ftrace_function(struct ftrace_ops *ops) __SHUNT_CHECKED;

/*
 * When this has returned 0, no func of @ops is running on any thread, nor will one: @ops, its code
 * and its data may go. Its filter stays, for when it is registered again. Waits for callbacks
 * that run. Returns 0; -EINVAL: not registered; -EDEADLK; or what the poke failed with: then it is
 * registered as before, or, where the way back failed too, called by no entry, while a func that
 * had begun may still run.
 */
SHUNT_API int unregister_ftrace_function(struct ftrace_ops *ops);

/*
 * Trace functions whose symbol matches @glob (*, ?, [a-z]; "module:glob": those of the
 * modules whose file name, without its folder, matches), besides those taken already; with
 * @reset, instead of them. @len: its length; 0: up to its NUL. Set_notrace: all but those.
 * @glob NULL or "" with @reset: no filter. They apply to what is loaded later, too.
 *
 * Returns 0; -EINVAL: the pattern matches no function that can be traced now; -ENOMEM; what the
 * poke of a registered @ops failed with; or what no module's file could be read for. Set again, it
 * tries again what could not be traced before.
 */
SHUNT_API int ftrace_set_filter(struct ftrace_ops *ops, const char *glob, int len, int reset);
SHUNT_API int ftrace_set_notrace(struct ftrace_ops *ops, const char *glob, int len, int reset);

/*
 * Add to the filter the function of which @ip is the start or the entry, or with @remove take
 * it away. Returns as above; -EINVAL: there is none.
 */
SHUNT_API int ftrace_set_filter_ip(struct ftrace_ops *ops, unsigned long ip, int remove, int reset);

/*
 * Forget the filters of @ops, which is not registered, and free what is kept for them. Not needed
 * before @ops goes away: its memory may be used again, zeroed. Returns nothing.
 */
SHUNT_API void ftrace_free_filter(struct ftrace_ops *ops);

/*
 * In a callback. Argument @n, 0 to 5: those in rdi, rsi, rdx, rcx, r8, r9; others: 0. On aarch64 0
 * to 7: x0 to x7. 0 where it is not known: at a return, and of a function that was compiled with
 * -finstrument-functions.
 */
SHUNT_API unsigned long ftrace_regs_get_argument(struct ftrace_regs *fregs, unsigned int n);
/*
 * In a retfunc: what the function returns in rax; on aarch64 x0. 0 where that is not known: of a
 * function that was compiled with -finstrument-functions or that ends by a tail call; and at an
 * entry.
 */
SHUNT_API unsigned long ftrace_regs_get_return_value(struct ftrace_regs *fregs);
/*
 * The stack pointer before the call of the tracer: at a function's entry of x86-64 it points to the
 * word that it returns by, which is parent_ip, or a return stub's where an fgraph_ops has the
 * function. (On aarch64 no such word is on the stack: the address is in x30.)
 */
SHUNT_API unsigned long ftrace_regs_get_stack_pointer(struct ftrace_regs *fregs);
/* @ip. */
SHUNT_API unsigned long ftrace_regs_get_instruction_pointer(struct ftrace_regs *fregs);

/* ---------------------------------------------------------- entry and return */

struct ftrace_graph_ent {
	unsigned long func; /* the start of the function */
	int depth;          /* of the traced functions that this thread is in; 0: the outermost */
	int __reserved;
};

struct ftrace_graph_ret {
	unsigned long func;
	int depth;
	int __reserved;
};

struct fgraph_ops;

/* At the entry. 0: do not call the retfunc when it returns. */
typedef int (*trace_func_graph_ent_t)(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
				      struct ftrace_regs *fregs);
/*
 * At the return: once for each entryfunc that was not 0 and whose function returns, or ends by a
 * tail call to another traced one. None is called for functions that end by longjmp() or an
 * exception, or with their thread.
 */
typedef void (*trace_func_graph_ret_t)(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
				       struct ftrace_regs *fregs);

#ifndef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wc++-compat"
#endif
struct fgraph_ops {
	trace_func_graph_ent_t entryfunc; /* NULL: as if it returned 1 */
	trace_func_graph_ret_t retfunc;   /* NULL: entries alone */
#ifdef __cplusplus
	void *private_;
#else
	void *private;
#endif
	struct ftrace_ops ops; /* for ftrace_set_filter() and its flags */
	void *__reserved[4];
};
#ifndef __cplusplus
#pragma GCC diagnostic pop
#endif

/*
 * As those for ftrace_ops. Behind the unregister neither function runs; where it fails, or until
 * it has changed the entries, returns are told as ever.
 */
SHUNT_API int register_ftrace_graph(struct fgraph_ops *gops) __SHUNT_CHECKED;
SHUNT_API int unregister_ftrace_graph(struct fgraph_ops *gops);

/*
 * What functions compiled with -pg -mfentry call until they are traced: it returns at once, where
 * the C library's would count. Not to be called.
 */
SHUNT_API void __fentry__(void);

/* ---------------------------------------------------------------- inspection */

enum shunt_entry_kind {
	SHUNT_ENTRY_NONE,       /* no room was left for a call */
	SHUNT_ENTRY_PATCHABLE,  /* -fpatchable-function-entry */
	SHUNT_ENTRY_FENTRY,     /* -pg -mfentry */
	SHUNT_ENTRY_XRAY,       /* -fxray-instrument */
	SHUNT_ENTRY_INSTRUMENT, /* -finstrument-functions */
};

/* A function. Its strings, but for @module, stay until the function that gets it returns. */
struct shunt_function_info {
	const char *name;   /* its symbol; NULL: there is none */
	void *addr;         /* its start */
	void *entry;        /* the instruction that is changed; NULL: there is none */
	const char *module; /* file name of the module that it is in */
	enum shunt_entry_kind kind;
	size_t nr_ops;   /* that trace it now */
	const char *why; /* why it cannot be traced; NULL: it can */
};

/*
 * Call @fn for each function that could be traced, and each other one that the modules' symbols
 * name, with the reason. Order: by module, then by address. What @fn is given is a snapshot.
 * Anything but 0 from @fn ends the walk and is returned. Any thread; not in a signal handler or a
 * callback.
 *
 * Returns 0, what @fn returned, -EDEADLK, -ENOMEM, or as register_ftrace_function().
 */
SHUNT_API int shunt_for_each_function(int (*fn)(const struct shunt_function_info *info, void *arg),
				      void *arg);

#ifdef __cplusplus
}
#endif

#endif
