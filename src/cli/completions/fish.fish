# Names of locks, asked of Consul for 300 ms at most.
function __fish_consul_lock_names
    set -l words (commandline -opc)
    command consul-lock names --current=(string unescape -- (commandline -ct)) -- $words[2..-1] 2>/dev/null </dev/null
end

# The command after --, with which the shell's own completion is asked.
function __fish_consul_lock_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    or return 1
    set -l command $words[(math $at + 1)..-1]
    test (count $words) -gt $at
    or set command
    complete -C (string join -- ' ' (string escape -- $command) (commandline -ct))
end

function __fish_consul_lock_is_after_dashes
    contains -- -- (commandline -opc)
end

complete -c consul-lock -n "not __fish_consul_lock_is_after_dashes" -f -a "(__fish_consul_lock_names)"
complete -c consul-lock -n "__fish_consul_lock_is_after_dashes" -f -a "(__fish_consul_lock_command)"
