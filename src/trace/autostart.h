/* SPDX-License-Identifier: MIT */
/* Sessions that the environment asks for (autostart.c): `shunt trace -- COMMAND`. */
#ifndef SHUNT_TRACE_AUTOSTART_H
#define SHUNT_TRACE_AUTOSTART_H

#include <stdbool.h>

/*
 * The session is such a one: its file is made when there is something to write, and under the
 * path with ".PID" behind it where the path is taken, by another process or an image of this one
 * before exec().
 */
extern bool trace_is_autostart;

#endif
