# Names of locks, asked of Consul for 300 ms at most; after -- whatever the shell offers for that command.
_consul_lock() {
    local i cur=$2 line=${COMP_LINE:0:COMP_POINT} names typed word
    local -a words
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -- ]] || continue
        if declare -F _command_offset >/dev/null; then
            _command_offset $((i + 1))
        elif ((i + 1 == COMP_CWORD)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        return
    done
    # As typed: bash has cut the words at = and :. Quotes are taken off as far as that is simple.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        typed=${line#"${line%%[![:space:]]*}"}
        ((i < COMP_CWORD)) && word=${COMP_WORDS[i]} || word=$typed
        if ((i == 0)) || [[ $typed != "$line" ]]; then
            words+=("")
        fi
        words[-1]+=$word
        line=${typed#"$word"}
    done
    typed=${words[-1]}
    words=("${words[@]//[\'\"\\]/}")
    # A key that begins with a quote: what bash would put in its place is another one.
    [[ $typed != *[\'\"\\]* ]] || return
    names=$("$1" names --current="$typed" -- "${words[@]:1:${#words[@]}-2}" 2>/dev/null </dev/null)
    if [[ -n $names ]]; then
        mapfile -t COMPREPLY <<<"$names"
        for i in "${!COMPREPLY[@]}"; do
            [[ ${COMPREPLY[i]} != */ ]] || compopt -o nospace 2>/dev/null
            COMPREPLY[i]=${COMPREPLY[i]#"${typed%"$cur"}"}
            printf -v "COMPREPLY[i]" %q "${COMPREPLY[i]}"
        done
        return
    fi
    _consul__lock "$@"
    # Placeholders, which nobody types.
    for i in "${!COMPREPLY[@]}"; do
        [[ ${COMPREPLY[i]} != [\<\[]* ]] || unset "COMPREPLY[i]"
    done
    COMPREPLY=("${COMPREPLY[@]}")
}
complete -F _consul_lock consul-lock
