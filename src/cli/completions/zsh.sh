# Names of locks, asked of Consul for 300 ms at most; after -- whatever the shell offers for that command.
_consul-lock() {
    local -a names whole parts
    local i
    for ((i = 2; i < CURRENT; i++)); do
        [[ $words[i] == -- ]] || continue
        words=("${(@)words[i+1,-1]}")
        ((CURRENT -= i))
        _normal
        return
    done
    names=("${(@f)$(_call_program names "${(q)words[1]}" names --current="${(q)${(Q)PREFIX}}" -- "${(@q)${(@Q)words[2,CURRENT-1]}}" 2>/dev/null </dev/null)}")
    names=("${(@)names:#}")
    if (($#names)); then
        parts=("${(@M)names:#*/}")
        whole=("${(@)names:#*/}")
        compadd -S '' -a parts
        compadd -a whole
        return 0
    fi
    _consul-lock_flags "$@"
}

if [ "$funcstack[1]" = "_consul-lock" ]; then
    _consul-lock "$@"
else
    compdef _consul-lock consul-lock
fi
