# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_consul_lock_global_optspecs
    string join \n h/help V/version
end

function __fish_consul_lock_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_consul_lock_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_consul_lock_using_subcommand
    set -l cmd (__fish_consul_lock_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c consul-lock -n "__fish_consul_lock_needs_command" -s h -l help -d 'Print help'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "run" -d 'Hold the lock while a command runs'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "doctor" -d 'Check all that a lock needs, each with its mend'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "man" -d 'Print a page of the manual'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "names" -d 'Print the names of locks for completions'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s c -d 'Run STRING by /bin/sh -c instead of a COMMAND' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s w -l wait -d 'Give up after this long; 0 is one attempt [default: wait for ever]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l limit -d 'A semaphore: up to N holders at once, 1 to 1000 [default: 1]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s E -l conflict-exit-code -d 'Exit code for "not acquired"' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l retry-for -d 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l value -d 'What the key says while it is held [default: a record of host, pid, user, program]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l session -d 'Lock under this session, which is renewed but neither made nor destroyed here' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l session-name -d 'The session\'s name [default: consul-lock KEY]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l ttl -d 'The session\'s TTL, 10s to 24h [default: 15s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l lock-delay -d 'Consul\'s pause between a lost lock and its next holder, up to 60s: the time that the promise is kept in [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l behavior -d 'What becomes of the key when the session ends by itself [default: release]' -r -f -a "release\t''
delete\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l check -d 'Bind the session to this health check instead of serfHealth; repeatable' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s s -l kill-signal -d 'First signal to the command and all that it started' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s k -l kill-after -d 'Time between that and SIGKILL; 0 is SIGKILL at once [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l lost-exit-code -d 'Exit code for a lost lock' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l monitor-retries -d 'Failed confirmations in a row before the lock counts as lost [default: as many as the lease has time for]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l monitor-retry-time -d 'The pause after a failed confirmation [default: 1s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l background -d 'What happens to processes that the command leaves behind' -r -f -a "kill\t'Give them the grace to end, then kill them, by name'
wait\t'Hold the lock until they end'
leave\t'Release the lock at once and let them live'"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l local -d 'Lock among this user\'s processes on this machine only, without Consul; with DIR, among all that name it' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l http-addr -d 'Consul\'s address: host:port, http://, https:// or unix:// [CONSUL_HTTP_ADDR, default: http://127.0.0.1:8500]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l token-file -d 'File with the ACL token; wins over --token [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l log-format -d 'Messages as text, or as one JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l shared -d 'Share the lock with others that share it, as a reader; runs without this flag are the writers'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s n -l no-wait -d 'Give up at once if somebody else has the lock: --wait 0'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l no-checks -d 'Bind the session to no health check'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l keep-key -d 'Leave the key in place on release'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l no-guarantee -d 'Go on where the promise cannot be kept; every run says so'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l local -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l ttl -d 'The session\'s TTL, 10s to 24h [default: 15s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l lock-delay -d 'Consul\'s pause between a lost lock and its next holder, up to 60s [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s k -l kill-after -d 'Time between the first signal and SIGKILL [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l check -d 'Try a session that is bound to this health check instead of serfHealth; repeatable' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l http-addr -d 'Consul\'s address: host:port, http://, https:// or unix:// [CONSUL_HTTP_ADDR, default: http://127.0.0.1:8500]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l token-file -d 'File with the ACL token; wins over --token [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l log-format -d 'Messages as text, or as one JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l json -d 'Print one JSON object instead of lines'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l no-checks -d 'Try a session that is bound to no health check'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l no-guarantee -d 'Warn, and do not fail, where a run could not keep its promise'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand completions" -s h -l help -d 'Print help'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand completions" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand man" -s h -l help -d 'Print help'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand man" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand names" -l current -d 'What was typed of the word at the cursor' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand names" -s h -l help -d 'Print help'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand names" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run doctor completions man names help" -f -a "run" -d 'Hold the lock while a command runs'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run doctor completions man names help" -f -a "doctor" -d 'Check all that a lock needs, each with its mend'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run doctor completions man names help" -f -a "completions" -d 'Print completions for a shell'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run doctor completions man names help" -f -a "man" -d 'Print a page of the manual'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run doctor completions man names help" -f -a "names" -d 'Print the names of locks for completions'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run doctor completions man names help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

# Names of locks, asked of Consul for 300 ms at most.
function __fish_consul_lock_names
    set -l words (commandline -opc)
    command consul-lock names --current=(commandline -ct) -- $words[2..-1] 2>/dev/null </dev/null
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
