/* SPDX-License-Identifier: MIT */
/* What production.c and production_sites.S share. */
#ifndef KERNEL_PRODUCTION_H
#define KERNEL_PRODUCTION_H

/* What a call that went wrong returns. */
#define WRONG_TARGET (-1) /* it reached none of the targets */
#define WRONG_RETURN (-2) /* the target found another return address than the site's */

#define NR_TARGETS 4

#endif
