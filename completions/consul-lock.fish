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
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "acquire" -d 'Acquire a lock for a script whose steps are separate processes'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "renew" -d 'Renew a lock that `acquire` has acquired, and make sure that it is still held'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "release" -d 'Release a lock that `acquire` has acquired'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "status" -d 'Show who holds a lock, since when, from where, and who waits for it'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "list" -d 'List the locks below a prefix'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "wait" -d 'Wait until nobody holds a lock'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "evict" -d 'Take a lock from its holder by ending its session'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "doctor" -d 'Check all that a lock needs, each with its mend'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "man" -d 'Print a page of the manual'
complete -c consul-lock -n "__fish_consul_lock_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s c -d 'Run /bin/sh -c STRING instead of a COMMAND' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s w -l wait -d 'Give up after this; 0 is one attempt' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l limit -d 'Up to N holders at once: a semaphore' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s E -l conflict-exit-code -d 'Exit code for "not acquired"' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l retry-for -d 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l value -d 'What the key says while it is held [default: a record of host, pid, user, program]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l session -d 'Lock under this session, not one of our own' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l session-name -d 'The session\'s name [default: consul-lock KEY]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l ttl -d 'The session\'s TTL, 10s to 24h [default: 15s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l lock-delay -d 'Pause before a lost lock\'s next holder' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l behavior -d 'What becomes of the key when the session ends by itself [default: release]' -r -f -a "release\t''
delete\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l check -d 'Bind the session to this health check instead of serfHealth; repeatable' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s s -l kill-signal -d 'First signal to the whole tree' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s k -l kill-after -d 'SIGKILL after that; 0: at once [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l lost-exit-code -d 'Exit code for a lost lock' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l monitor-retries -d 'Failed confirmations in a row before the lock counts as lost [default: as many as the lease has time for]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l monitor-retry-time -d 'The pause after a failed confirmation [default: 1s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l background -d 'What becomes of processes that it leaves behind' -r -f -a "kill\t'Give them the grace to end, then kill them, by name'
wait\t'Hold the lock until they end'
leave\t'Release the lock at once and let them live'"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l local -d 'Lock on this machine only, without Consul' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l metrics-file -d 'Write the outcome here, for Prometheus' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l shared -d 'As a reader, beside other readers'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s n -l no-wait -d 'Give up at once if it is taken: --wait 0'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l no-checks -d 'Bind the session to no health check'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l keep-key -d 'Leave the key in place on release'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -l no-guarantee -d 'Go on where the promise cannot be kept; every run says so'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand run" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l pid -d 'With --hold: until this process has ended' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l max -d 'With --hold: release it after this long' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s w -l wait -d 'Give up after this; 0 is one attempt' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l limit -d 'Up to N holders at once: a semaphore' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s E -l conflict-exit-code -d 'Exit code for "not acquired"' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l retry-for -d 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l value -d 'What the key says while it is held [default: a record of host, pid, user, program]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l session -d 'Lock under this session, not one of our own' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l session-name -d 'The session\'s name [default: consul-lock KEY]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l ttl -d 'The session\'s TTL, 10s to 24h [default: 15s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l lock-delay -d 'Pause before a lost lock\'s next holder' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l behavior -d 'What becomes of the key when the session ends by itself [default: release]' -r -f -a "release\t''
delete\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l check -d 'Bind the session to this health check instead of serfHealth; repeatable' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l local -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l export -d 'Print shell variables for `eval`'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l hold -d 'Renew it in the background (--pid or --max)'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l no-guarantee -d 'Allow a lock delay of 0, with which the next holder may start while this one\'s script still works'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l shared -d 'As a reader, beside other readers'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s n -l no-wait -d 'Give up at once if it is taken: --wait 0'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l no-checks -d 'Bind the session to no health check'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -l keep-key -d 'Leave the key in place on release'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand acquire" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l session -d 'The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l retry-for -d 'How long a Consul that does not answer is asked again [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l local -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -l export -d 'Print CONSUL_LOCK_EXPIRES for `eval`, or `(exit N)`'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand renew" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l session -d 'The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l retry-for -d 'How long a Consul that does not answer is asked again [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l local -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -l keep-key -d 'Leave the key in place, with its value; so does a lock that was acquired with --keep-key'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand release" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l retry-for -d 'How long a Consul that does not answer is asked again [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l local -d 'Lock on this machine only, without Consul' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l json -d 'One JSON object instead of text'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -l watch -d 'Go on, and show it again whenever it changes'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand status" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l retry-for -d 'How long a Consul that does not answer is asked again [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l local -d 'Lock on this machine only, without Consul' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -l json -d 'One JSON object a line instead of a table'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand list" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -s w -l wait -d 'Give up after this long, with exit code 75; 0 is one look [default: wait for ever]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l retry-for -d 'How long a Consul that does not answer is asked again [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l local -d 'Lock on this machine only, without Consul' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand wait" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l session -d 'Only if this session holds it; one of several that do. Else the exit code is 75' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l retry-for -d 'How long a Consul that does not answer is asked again [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l local -d 'Refused with the reason' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -s y -l yes -d 'Do not ask'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand evict" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l local -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l ttl -d 'The session\'s TTL, 10s to 24h [default: 15s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l lock-delay -d 'Consul\'s pause between a lost lock and its next holder, up to 60s [default: 30s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s k -l kill-after -d 'Time between the first signal and SIGKILL [default: 5s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l check -d 'Try a session that is bound to this health check instead of serfHealth; repeatable' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l http-addr -d 'Consul\'s address [CONSUL_HTTP_ADDR]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l token -d 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l token-file -d 'ACL token\'s file [CONSUL_HTTP_TOKEN_FILE]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l ca-file -d 'CA certificate in PEM [CONSUL_CACERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l ca-path -d 'Folder of CA certificates in PEM [CONSUL_CAPATH]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l client-cert -d 'Client certificate in PEM [CONSUL_CLIENT_CERT]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l client-key -d 'The client certificate\'s key in PEM [CONSUL_CLIENT_KEY]' -r -F
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l tls-server-name -d 'Name that the server\'s certificate must carry [CONSUL_TLS_SERVER_NAME]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l datacenter -d 'Datacenter of the lock [default: the agent\'s]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l namespace -d 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l partition -d 'Partition, Consul Enterprise [CONSUL_PARTITION]' -r -f
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l log-format -d 'Text, or a JSON object a line' -r -f -a "text\t''
json\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l color -d 'Colours in messages; NO_COLOR is respected' -r -f -a "auto\t''
always\t''
never\t''"
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l json -d 'Print one JSON object instead of lines'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l no-checks -d 'Try a session that is bound to no health check'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -l no-guarantee -d 'Warn, and do not fail, where a run could not keep its promise'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s q -l quiet -d 'Say nothing but errors and losses'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s v -l verbose -d 'Say more; twice: each confirmation'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand completions" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand man" -s V -l version -d 'Print version'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "run" -d 'Hold the lock while a command runs'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "acquire" -d 'Acquire a lock for a script whose steps are separate processes'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "renew" -d 'Renew a lock that `acquire` has acquired, and make sure that it is still held'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "release" -d 'Release a lock that `acquire` has acquired'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "status" -d 'Show who holds a lock, since when, from where, and who waits for it'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "list" -d 'List the locks below a prefix'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "wait" -d 'Wait until nobody holds a lock'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "evict" -d 'Take a lock from its holder by ending its session'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "doctor" -d 'Check all that a lock needs, each with its mend'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "man" -d 'Print a page of the manual'
complete -c consul-lock -n "__fish_consul_lock_using_subcommand help; and not __fish_seen_subcommand_from run acquire renew release status list wait evict doctor completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

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
