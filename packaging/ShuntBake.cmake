# SPDX-License-Identifier: MIT
# shunt_bake(TARGET): the executable or shared library is baked as soon as it is linked (`shunt bake`): it has a
# table of its sites, may be stripped, and starts without a scan. Needs the shunt program: installed,
# in PATH, or named by -DSHUNT_PROGRAM=. In a cross build it is this machine's, which bakes files for either CPU: what
# is installed beside the library, or in CMAKE_PREFIX_PATH, is the target's.
function(shunt_bake target)
	if(CMAKE_CROSSCOMPILING)
		find_program(SHUNT_PROGRAM shunt PATHS ENV PATH NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
	else()
		find_program(SHUNT_PROGRAM shunt HINTS ${SHUNT_PROGRAM_HINTS})
	endif()
	if(NOT SHUNT_PROGRAM AND CMAKE_CROSSCOMPILING)
		message(FATAL_ERROR "shunt_bake(${target}): there is no shunt program of the machine that builds; install it, or set SHUNT_PROGRAM")
	elseif(NOT SHUNT_PROGRAM)
		message(FATAL_ERROR "shunt_bake(${target}): there is no shunt program; install it, or set SHUNT_PROGRAM")
	endif()
	add_custom_command(TARGET ${target} POST_BUILD COMMAND ${SHUNT_PROGRAM} bake $<TARGET_FILE:${target}> VERBATIM)
endfunction()
