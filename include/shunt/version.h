/* SPDX-License-Identifier: MIT */
/* The version that a program is compiled with. */
#ifndef SHUNT_VERSION_H
#define SHUNT_VERSION_H

#define SHUNT_VERSION_MAJOR 0
#define SHUNT_VERSION_MINOR 1
#define SHUNT_VERSION_PATCH 0

/* To be compared: #if SHUNT_VERSION_NUMBER >= 100 (0.1.0). */
#define SHUNT_VERSION_NUMBER \
	(SHUNT_VERSION_MAJOR * 10000 + SHUNT_VERSION_MINOR * 100 + SHUNT_VERSION_PATCH)

#endif
