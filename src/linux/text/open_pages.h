/* SPDX-License-Identifier: MIT */
/*
 * Text that is written by stores, its pages opened for writing by mprotect() (open_pages.c): those
 * that were opened stay open until shunt_pages_close(), for the length of a batch. Update lock
 * held.
 */
#ifndef SHUNT_LINUX_OPEN_PAGES_H
#define SHUNT_LINUX_OPEN_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#include <shunt/port.h>

/*
 * Make @writes, sorted by address, to private mappings; with @whole_words each by one store, where
 * it lies in an aligned word of 8 bytes. 0 or -errno, with shunt_failed_call set; some may have
 * been made then. errno is left alone.
 */
int shunt_pages_write(const struct shunt_write *writes, size_t n, bool whole_words);

/* Whether @addr is writable because it has been opened here, and was not before. */
bool shunt_pages_has_opened(uintptr_t addr);

/*
 * Give all pages that are open the protection that they had. In a copy of the process too, made
 * while pages were being opened or closed: the record may say either of a page that is the other;
 * closed, its writes open it. 0 or -errno, with shunt_failed_call set. errno is left alone.
 */
int shunt_pages_close(void);

#endif
