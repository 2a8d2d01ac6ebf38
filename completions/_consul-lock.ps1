
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'consul-lock' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    # Names of locks, asked of Consul for 300 ms at most; after -- whatever the shell offers for that command.
    $before = @($commandElements | Select-Object -Skip 1 | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { $_.ToString() })
    $at = [Array]::IndexOf($before, '--')
    if ($at -ge 0) {
        $rest = ((@($before | Select-Object -Skip ($at + 1)) + $wordToComplete) -join ' ')
        (TabExpansion2 -inputScript $rest -cursorColumn $rest.Length).CompletionMatches
        return
    }
    $names = @(& $commandElements[0].ToString() names "--current=$wordToComplete" '--' @before 2>$null)
    if ($names.Count -gt 0) {
        $names | ForEach-Object {
            $text = $_
            if ($_ -notmatch '^[\w/.][\w/.:=+-]*$') { $text = "'" + [CodeGeneration]::EscapeSingleQuotedStringContent($_) + "'" }
            [CompletionResult]::new($text, $_, [CompletionResultType]::ParameterValue, $_)
        }
        return
    }
    $command = @(
        'consul-lock'
        for ($i = 1; $i -lt [Math]::Min(2, $commandElements.Count); $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'consul-lock' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('run', 'run', [CompletionResultType]::ParameterValue, 'Hold the lock while a command runs')
            [CompletionResult]::new('acquire', 'acquire', [CompletionResultType]::ParameterValue, 'Acquire a lock for a script whose steps are separate processes')
            [CompletionResult]::new('renew', 'renew', [CompletionResultType]::ParameterValue, 'Renew a lock that `acquire` has acquired, and make sure that it is still held')
            [CompletionResult]::new('release', 'release', [CompletionResultType]::ParameterValue, 'Release a lock that `acquire` has acquired')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Show who holds a lock, since when, from where, and who waits for it')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List the locks below a prefix')
            [CompletionResult]::new('wait', 'wait', [CompletionResultType]::ParameterValue, 'Wait until nobody holds a lock')
            [CompletionResult]::new('evict', 'evict', [CompletionResultType]::ParameterValue, 'Take a lock from its holder by ending its session')
            [CompletionResult]::new('doctor', 'doctor', [CompletionResultType]::ParameterValue, 'Check all that a lock needs, each with its mend')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print completions for a shell')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Print a page of the manual')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'consul-lock;run' {
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Run /bin/sh -c STRING instead of a COMMAND')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Give up after this; 0 is one attempt')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up after this; 0 is one attempt')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Up to N holders at once: a semaphore')
            [CompletionResult]::new('-E', '-E ', [CompletionResultType]::ParameterName, 'Exit code for "not acquired"')
            [CompletionResult]::new('--conflict-exit-code', '--conflict-exit-code', [CompletionResultType]::ParameterName, 'Exit code for "not acquired"')
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]')
            [CompletionResult]::new('--value', '--value', [CompletionResultType]::ParameterName, 'What the key says while it is held [default: a record of host, pid, user, program]')
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Lock under this session, not one of our own')
            [CompletionResult]::new('--session-name', '--session-name', [CompletionResultType]::ParameterName, 'The session''s name [default: consul-lock KEY]')
            [CompletionResult]::new('--ttl', '--ttl', [CompletionResultType]::ParameterName, 'The session''s TTL, 10s to 24h [default: 15s]')
            [CompletionResult]::new('--lock-delay', '--lock-delay', [CompletionResultType]::ParameterName, 'Pause before a lost lock''s next holder')
            [CompletionResult]::new('--behavior', '--behavior', [CompletionResultType]::ParameterName, 'What becomes of the key when the session ends by itself [default: release]')
            [CompletionResult]::new('--check', '--check', [CompletionResultType]::ParameterName, 'Bind the session to this health check instead of serfHealth; repeatable')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'First signal to the whole tree')
            [CompletionResult]::new('--kill-signal', '--kill-signal', [CompletionResultType]::ParameterName, 'First signal to the whole tree')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'SIGKILL after that; 0: at once [default: 5s]')
            [CompletionResult]::new('--kill-after', '--kill-after', [CompletionResultType]::ParameterName, 'SIGKILL after that; 0: at once [default: 5s]')
            [CompletionResult]::new('--lost-exit-code', '--lost-exit-code', [CompletionResultType]::ParameterName, 'Exit code for a lost lock')
            [CompletionResult]::new('--monitor-retries', '--monitor-retries', [CompletionResultType]::ParameterName, 'Failed confirmations in a row before the lock counts as lost [default: as many as the lease has time for]')
            [CompletionResult]::new('--monitor-retry-time', '--monitor-retry-time', [CompletionResultType]::ParameterName, 'The pause after a failed confirmation [default: 1s]')
            [CompletionResult]::new('--background', '--background', [CompletionResultType]::ParameterName, 'What becomes of processes that it leaves behind')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Lock on this machine only, without Consul')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--metrics-file', '--metrics-file', [CompletionResultType]::ParameterName, 'Write the outcome here, for Prometheus')
            [CompletionResult]::new('--shared', '--shared', [CompletionResultType]::ParameterName, 'As a reader, beside other readers')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Give up at once if it is taken: --wait 0')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Give up at once if it is taken: --wait 0')
            [CompletionResult]::new('--no-checks', '--no-checks', [CompletionResultType]::ParameterName, 'Bind the session to no health check')
            [CompletionResult]::new('--keep-key', '--keep-key', [CompletionResultType]::ParameterName, 'Leave the key in place on release')
            [CompletionResult]::new('--no-guarantee', '--no-guarantee', [CompletionResultType]::ParameterName, 'Go on where the promise cannot be kept; every run says so')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;acquire' {
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'With --hold: until this process has ended')
            [CompletionResult]::new('--max', '--max', [CompletionResultType]::ParameterName, 'With --hold: release it after this long')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Give up after this; 0 is one attempt')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up after this; 0 is one attempt')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Up to N holders at once: a semaphore')
            [CompletionResult]::new('-E', '-E ', [CompletionResultType]::ParameterName, 'Exit code for "not acquired"')
            [CompletionResult]::new('--conflict-exit-code', '--conflict-exit-code', [CompletionResultType]::ParameterName, 'Exit code for "not acquired"')
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]')
            [CompletionResult]::new('--value', '--value', [CompletionResultType]::ParameterName, 'What the key says while it is held [default: a record of host, pid, user, program]')
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Lock under this session, not one of our own')
            [CompletionResult]::new('--session-name', '--session-name', [CompletionResultType]::ParameterName, 'The session''s name [default: consul-lock KEY]')
            [CompletionResult]::new('--ttl', '--ttl', [CompletionResultType]::ParameterName, 'The session''s TTL, 10s to 24h [default: 15s]')
            [CompletionResult]::new('--lock-delay', '--lock-delay', [CompletionResultType]::ParameterName, 'Pause before a lost lock''s next holder')
            [CompletionResult]::new('--behavior', '--behavior', [CompletionResultType]::ParameterName, 'What becomes of the key when the session ends by itself [default: release]')
            [CompletionResult]::new('--check', '--check', [CompletionResultType]::ParameterName, 'Bind the session to this health check instead of serfHealth; repeatable')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'local')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--export', '--export', [CompletionResultType]::ParameterName, 'Print shell variables for `eval`')
            [CompletionResult]::new('--hold', '--hold', [CompletionResultType]::ParameterName, 'Renew it in the background (--pid or --max)')
            [CompletionResult]::new('--no-guarantee', '--no-guarantee', [CompletionResultType]::ParameterName, 'Allow a lock delay of 0, with which the next holder may start while this one''s script still works')
            [CompletionResult]::new('--shared', '--shared', [CompletionResultType]::ParameterName, 'As a reader, beside other readers')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Give up at once if it is taken: --wait 0')
            [CompletionResult]::new('--no-wait', '--no-wait', [CompletionResultType]::ParameterName, 'Give up at once if it is taken: --wait 0')
            [CompletionResult]::new('--no-checks', '--no-checks', [CompletionResultType]::ParameterName, 'Bind the session to no health check')
            [CompletionResult]::new('--keep-key', '--keep-key', [CompletionResultType]::ParameterName, 'Leave the key in place on release')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;renew' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION]')
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again [default: 30s]')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'local')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--export', '--export', [CompletionResultType]::ParameterName, 'Print CONSUL_LOCK_EXPIRES for `eval`, or `(exit N)`')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;release' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION]')
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again [default: 30s]')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'local')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--keep-key', '--keep-key', [CompletionResultType]::ParameterName, 'Leave the key in place, with its value; so does a lock that was acquired with --keep-key')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;status' {
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again [default: 5s]')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Lock on this machine only, without Consul')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'One JSON object instead of text')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Go on, and show it again whenever it changes')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;list' {
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again [default: 5s]')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Lock on this machine only, without Consul')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'One JSON object a line instead of a table')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;wait' {
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Give up after this long, with exit code 75; 0 is one look [default: wait for ever]')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up after this long, with exit code 75; 0 is one look [default: wait for ever]')
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again [default: 30s]')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Lock on this machine only, without Consul')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;evict' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Only if this session holds it; one of several that do. Else the exit code is 75')
            [CompletionResult]::new('--retry-for', '--retry-for', [CompletionResultType]::ParameterName, 'How long a Consul that does not answer is asked again [default: 5s]')
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'Refused with the reason')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('-y', '-y', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;doctor' {
            [CompletionResult]::new('--local', '--local', [CompletionResultType]::ParameterName, 'local')
            [CompletionResult]::new('--ttl', '--ttl', [CompletionResultType]::ParameterName, 'The session''s TTL, 10s to 24h [default: 15s]')
            [CompletionResult]::new('--lock-delay', '--lock-delay', [CompletionResultType]::ParameterName, 'Consul''s pause between a lost lock and its next holder, up to 60s [default: 30s]')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Time between the first signal and SIGKILL [default: 5s]')
            [CompletionResult]::new('--kill-after', '--kill-after', [CompletionResultType]::ParameterName, 'Time between the first signal and SIGKILL [default: 5s]')
            [CompletionResult]::new('--check', '--check', [CompletionResultType]::ParameterName, 'Try a session that is bound to this health check instead of serfHealth; repeatable')
            [CompletionResult]::new('--http-addr', '--http-addr', [CompletionResultType]::ParameterName, 'Consul''s address [CONSUL_HTTP_ADDR]')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]')
            [CompletionResult]::new('--token-file', '--token-file', [CompletionResultType]::ParameterName, 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]')
            [CompletionResult]::new('--ca-file', '--ca-file', [CompletionResultType]::ParameterName, 'CA certificate in PEM [CONSUL_CACERT]')
            [CompletionResult]::new('--ca-path', '--ca-path', [CompletionResultType]::ParameterName, 'Folder of CA certificates in PEM [CONSUL_CAPATH]')
            [CompletionResult]::new('--client-cert', '--client-cert', [CompletionResultType]::ParameterName, 'Client certificate in PEM [CONSUL_CLIENT_CERT]')
            [CompletionResult]::new('--client-key', '--client-key', [CompletionResultType]::ParameterName, 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]')
            [CompletionResult]::new('--tls-server-name', '--tls-server-name', [CompletionResultType]::ParameterName, 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]')
            [CompletionResult]::new('--datacenter', '--datacenter', [CompletionResultType]::ParameterName, 'Datacenter of the lock [default: the agent''s]')
            [CompletionResult]::new('--namespace', '--namespace', [CompletionResultType]::ParameterName, 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]')
            [CompletionResult]::new('--partition', '--partition', [CompletionResultType]::ParameterName, 'Partition, Consul Enterprise [CONSUL_PARTITION]')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Text, or a JSON object a line')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'Colours in messages; NO_COLOR is respected')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON object instead of lines')
            [CompletionResult]::new('--no-checks', '--no-checks', [CompletionResultType]::ParameterName, 'Try a session that is bound to no health check')
            [CompletionResult]::new('--no-guarantee', '--no-guarantee', [CompletionResultType]::ParameterName, 'Warn, and do not fail, where a run could not keep its promise')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and losses')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice: each confirmation')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;completions' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;man' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'consul-lock;help' {
            [CompletionResult]::new('run', 'run', [CompletionResultType]::ParameterValue, 'Hold the lock while a command runs')
            [CompletionResult]::new('acquire', 'acquire', [CompletionResultType]::ParameterValue, 'Acquire a lock for a script whose steps are separate processes')
            [CompletionResult]::new('renew', 'renew', [CompletionResultType]::ParameterValue, 'Renew a lock that `acquire` has acquired, and make sure that it is still held')
            [CompletionResult]::new('release', 'release', [CompletionResultType]::ParameterValue, 'Release a lock that `acquire` has acquired')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Show who holds a lock, since when, from where, and who waits for it')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List the locks below a prefix')
            [CompletionResult]::new('wait', 'wait', [CompletionResultType]::ParameterValue, 'Wait until nobody holds a lock')
            [CompletionResult]::new('evict', 'evict', [CompletionResultType]::ParameterValue, 'Take a lock from its holder by ending its session')
            [CompletionResult]::new('doctor', 'doctor', [CompletionResultType]::ParameterValue, 'Check all that a lock needs, each with its mend')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print completions for a shell')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Print a page of the manual')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'consul-lock;help;run' {
            break
        }
        'consul-lock;help;acquire' {
            break
        }
        'consul-lock;help;renew' {
            break
        }
        'consul-lock;help;release' {
            break
        }
        'consul-lock;help;status' {
            break
        }
        'consul-lock;help;list' {
            break
        }
        'consul-lock;help;wait' {
            break
        }
        'consul-lock;help;evict' {
            break
        }
        'consul-lock;help;doctor' {
            break
        }
        'consul-lock;help;completions' {
            break
        }
        'consul-lock;help;man' {
            break
        }
        'consul-lock;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
