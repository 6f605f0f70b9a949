# SPDX-License-Identifier: MIT
# bash: completion for shunt. Commands and options are what --help says; processes and keys what is there.

_shunt_reply() {
	mapfile -t COMPREPLY < <(compgen "$@")
}

_shunt_files() {
	compopt -o filenames 2>/dev/null
	_shunt_reply -f -- "$1"
}

# The options of a command.
_shunt_options() {
	"$1" "$2" --help 2>/dev/null | awk '/^ +-/ { for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i } }'
	echo --help
}

# Processes that have an agent.
_shunt_pids() {
	"$1" ps 2>/dev/null | awk '$3 == "agent" { print $1 }'
}

# Those of this user, which could be attached to.
_shunt_own_pids() {
	ps -U "$(id -u)" -o pid= 2>/dev/null
}

# Keys of process $2; or what key $3 can be set to.
_shunt_keys() {
	"$1" list "$2" keys 2>/dev/null | awk 'NR > 1 { print $2 }'
}
_shunt_values() {
	"$1" list "$2" keys 2>/dev/null | awk -v key="$3" '
		$2 == key && $1 == "branch" { print "on off +1 -1" }
		$2 == key && $1 == "call" {
			print "initial"
			if (sub(/.*  choices: /, "")) { gsub(/,/, ""); sub(/  .*/, ""); print }
		}'
}

_shunt_set() {
	local shunt=$1 cur=${COMP_WORDS[COMP_CWORD]} pid=${COMP_WORDS[2]} key value=
	if [ "$COMP_CWORD" = 2 ]; then
		_shunt_reply -W "$(_shunt_pids "$shunt")" -- "$cur"
		return
	fi
	# "=" parts words, as a rule.
	if [ "$cur" = = ]; then
		key=${COMP_WORDS[COMP_CWORD - 1]}
	elif [ "${COMP_WORDS[COMP_CWORD - 1]}" = = ]; then
		key=${COMP_WORDS[COMP_CWORD - 2]} value=$cur
	else
		compopt -o nospace 2>/dev/null
		_shunt_reply -S = -W "$(_shunt_keys "$shunt" "$pid")" -- "$cur"
		return
	fi
	_shunt_reply -W "$(_shunt_values "$shunt" "$pid" "$key")" -- "$value"
}

_shunt() {
	local shunt=${COMP_WORDS[0]} command=${COMP_WORDS[1]} cur=${COMP_WORDS[COMP_CWORD]}
	local before=${COMP_WORDS[COMP_CWORD - 1]}
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		_shunt_reply -W "$("$shunt" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }') --help --version" -- "$cur"
		return
	fi
	case $before in
	-o | --output) _shunt_files "$cur"; return ;;
	-p) _shunt_reply -W "$(_shunt_pids "$shunt") $(_shunt_own_pids)" -- "$cur"; return ;;
	esac
	case $cur in
	-*) _shunt_reply -W "$(_shunt_options "$shunt" "$command")" -- "$cur"; return ;;
	esac
	case $command in
	set) _shunt_set "$shunt" ;;
	list)
		_shunt_reply -W "$(_shunt_pids "$shunt")" -- "$cur"
		[ "$COMP_CWORD" = 2 ] || _shunt_reply -W 'keys functions modules' -- "$cur"
		;;
	stats | snapshot | detach) _shunt_reply -W "$(_shunt_pids "$shunt")" -- "$cur" ;;
	attach) _shunt_reply -W "$(_shunt_own_pids)" -- "$cur" ;;
	trace)
		compopt -o filenames 2>/dev/null
		_shunt_reply -c -f -- "$cur"
		;;
	sites | bake | report | replay | graph | export) _shunt_files "$cur" ;;
	esac
}

complete -o bashdefault -F _shunt shunt
