/* SPDX-License-Identifier: MIT */
/*
 * The dynamic linker's list of modules, also in a copy of the process, where nobody may be left to
 * release the lock of it. For libshunt-trace and libshunt-agent, too.
 */
#ifndef SHUNT_LINUX_BASE_DL_LIST_H
#define SHUNT_LINUX_BASE_DL_LIST_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * As dl_iterate_phdr(). In a copy @fn is called without the dynamic linker's lock, dlpi_name is
 * valid while @fn runs, and dlpi_adds, dlpi_subs and what is behind them are 0. fork() waits for
 * the end of it, at most two seconds: @fn must not fork.
 */
__attribute__((visibility("default"))) int
shunt_dl_iterate(int (*fn)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);

/*
 * The dynamic linker's records for debuggers; NULL: the program has none, or does not say where
 * (DT_DEBUG). No lock is taken.
 */
struct r_debug *shunt_dl_debug(void);

/* A number that is another one where modules have come or gone since. */
__attribute__((visibility("default"))) uint64_t shunt_dl_changes(void);

/* Whether this is a copy of the process: a thread that is not in it may have the lock of the list.
 */
bool shunt_dl_is_copied(void);
/*
 * Whether one may have that of loading, dlopen()'s and dladdr()'s, too: in a copy that fork() has
 * not made, which makes that lock anew in the child. And whether one was loading or unloading at
 * that time: then a dlopen() ends the process (an assertion of glibc's).
 */
bool shunt_dl_may_be_locked(void);

#endif
