# SPDX-License-Identifier: MIT
# bash: completion for shunt. Commands and options are what --help says; processes and keys what is there.

# Names are what another process says, and another user's: no shell ever expands them, here (compgen -W would) or on
# the line, where they stand quoted.

# Of the lines on standard input those that begin with $1, each with $2 behind it.
_shunt_reply() {
	local name quoted
	while IFS= read -r name; do
		[ -n "$name" ] || continue
		printf -v quoted %q "$name"
		if [ "${name:0:${#1}}" = "$1" ] || [ "${quoted:0:${#1}}" = "$1" ]; then
			COMPREPLY+=("$quoted$2")
		fi
	done
}

_shunt_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# The options of a command.
_shunt_options() {
	"$1" "$2" --help 2>/dev/null | awk '/^ +-/ { for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i } }'
	echo --help
}

# Processes that have an agent.
_shunt_pids() {
	"$1" ps 2>/dev/null | awk '$3 == "agent" && $1 ~ /^[0-9]+$/ { print $1 }'
}

# Those of this user, which could be attached to.
_shunt_own_pids() {
	ps -U "$(id -u)" -o pid= 2>/dev/null | tr -d ' '
}

_shunt_set() {
	local shunt=$1 cur=${COMP_WORDS[COMP_CWORD]} pid=${COMP_WORDS[2]} key value=
	if [ "$COMP_CWORD" = 2 ]; then
		_shunt_reply "$cur" < <(_shunt_pids "$shunt")
		return
	fi
	# "=" parts words, as a rule.
	if [ "$cur" = = ]; then
		key=${COMP_WORDS[COMP_CWORD - 1]}
	elif [ "${COMP_WORDS[COMP_CWORD - 1]}" = = ]; then
		key=${COMP_WORDS[COMP_CWORD - 2]} value=$cur
	else
		compopt -o nospace 2>/dev/null
		_shunt_reply "$cur" = < <("$shunt" list "$pid" keys --names 2>/dev/null)
		return
	fi
	_shunt_reply "$value" < <("$shunt" list "$pid" keys --values="$key" 2>/dev/null)
}

_shunt() {
	local shunt=${COMP_WORDS[0]} command=${COMP_WORDS[1]} cur=${COMP_WORDS[COMP_CWORD]}
	local before=${COMP_WORDS[COMP_CWORD - 1]}
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		_shunt_reply "$cur" < <("$shunt" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }'; printf '%s\n' --help --version)
		return
	fi
	case $before in
	-o | --output) _shunt_files "$cur"; return ;;
	-p | --pid) _shunt_reply "$cur" < <(_shunt_pids "$shunt"; _shunt_own_pids); return ;;
	esac
	# A value of "set" may begin with one.
	[ "$before" = = ] || case $cur in
	-*) _shunt_reply "$cur" < <(_shunt_options "$shunt" "$command"); return ;;
	esac
	case $command in
	set) _shunt_set "$shunt" ;;
	list)
		if [ "$COMP_CWORD" = 2 ]; then
			_shunt_reply "$cur" < <(_shunt_pids "$shunt")
		else
			_shunt_reply "$cur" < <(printf '%s\n' keys functions modules)
		fi
		;;
	stats | snapshot | detach) _shunt_reply "$cur" < <(_shunt_pids "$shunt") ;;
	attach) _shunt_reply "$cur" < <(_shunt_own_pids) ;;
	trace)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
		;;
	sites | bake | report | replay | graph | export) _shunt_files "$cur" ;;
	esac
}

complete -o bashdefault -F _shunt shunt
