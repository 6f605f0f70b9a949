# SPDX-License-Identifier: MIT
# shunt_bake(TARGET): the executable or shared library is baked as soon as it is linked (`shunt bake`): it has a
# table of its sites, may be stripped, and starts without a scan. Needs the shunt program: installed,
# in PATH, or named by -DSHUNT_PROGRAM=.
function(shunt_bake target)
	find_program(SHUNT_PROGRAM shunt HINTS ${SHUNT_PROGRAM_HINTS})
	if(NOT SHUNT_PROGRAM)
		message(FATAL_ERROR "shunt_bake(${target}): there is no shunt program; install it, or set SHUNT_PROGRAM")
	endif()
	add_custom_command(TARGET ${target} POST_BUILD COMMAND ${SHUNT_PROGRAM} bake $<TARGET_FILE:${target}> VERBATIM)
endfunction()
