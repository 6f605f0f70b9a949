/* SPDX-License-Identifier: MIT */
/* Names of C++. */
#ifndef SHUNT_TOOLS_TRACE_NAMES_H
#define SHUNT_TOOLS_TRACE_NAMES_H

/* @symbol demangled and printable, of malloc(); NULL: it is no mangled name, or too long. */
char *trace_demangle(const char *symbol);

#endif
