/* SPDX-License-Identifier: MIT */
/* What the ring-0 port (port.c) has beyond <shunt/port.h>. */
#ifndef KERNEL_PORT_H
#define KERNEL_PORT_H

#include <stddef.h>

/*
 * Write to text through the alias. Any context. One store where @len is 1, 2, 4 or 8: whole to
 * others if it lies within a cache line.
 */
void port_write_text(void *addr, const void *bytes, size_t len);

/* At boot, when interrupts between CPUs work: the site table (sites.c). */
void sites_init(void);

#endif
