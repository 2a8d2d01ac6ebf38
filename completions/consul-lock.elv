
use builtin;
use str;

set edit:completion:arg-completer[consul-lock] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'consul-lock'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'consul-lock'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand run 'Hold the lock while a command runs'
            cand acquire 'Acquire a lock for a script whose steps are separate processes'
            cand renew 'Renew a lock that `acquire` has acquired, and make sure that it is still held'
            cand release 'Release a lock that `acquire` has acquired'
            cand status 'Show who holds a lock, since when, from where, and who waits for it'
            cand list 'List the locks below a prefix'
            cand wait 'Wait until nobody holds a lock'
            cand evict 'Take a lock from its holder by ending its session'
            cand doctor 'Check all that a lock needs, each with its mend'
            cand completions 'Print completions for a shell'
            cand man 'Print a page of the manual'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'consul-lock;run'= {
            cand -c 'Run /bin/sh -c STRING instead of a COMMAND'
            cand -w 'Give up after this; 0 is one attempt'
            cand --wait 'Give up after this; 0 is one attempt'
            cand --limit 'Up to N holders at once: a semaphore'
            cand -E 'Exit code for "not acquired"'
            cand --conflict-exit-code 'Exit code for "not acquired"'
            cand --retry-for 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]'
            cand --value 'What the key says while it is held [default: a record of host, pid, user, program]'
            cand --session 'Lock under this session, not one of our own'
            cand --session-name 'The session''s name [default: consul-lock KEY]'
            cand --ttl 'The session''s TTL, 10s to 24h [default: 15s]'
            cand --lock-delay 'Pause before a lost lock''s next holder'
            cand --behavior 'What becomes of the key when the session ends by itself [default: release]'
            cand --check 'Bind the session to this health check instead of serfHealth; repeatable'
            cand -s 'First signal to the whole tree'
            cand --kill-signal 'First signal to the whole tree'
            cand -k 'SIGKILL after that; 0: at once [default: 5s]'
            cand --kill-after 'SIGKILL after that; 0: at once [default: 5s]'
            cand --lost-exit-code 'Exit code for a lost lock'
            cand --monitor-retries 'Failed confirmations in a row before the lock counts as lost [default: as many as the lease has time for]'
            cand --monitor-retry-time 'The pause after a failed confirmation [default: 1s]'
            cand --background 'What becomes of processes that it leaves behind'
            cand --local 'Lock on this machine only, without Consul'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --metrics-file 'Write the outcome here, for Prometheus'
            cand --shared 'As a reader, beside other readers'
            cand -n 'Give up at once if it is taken: --wait 0'
            cand --no-wait 'Give up at once if it is taken: --wait 0'
            cand --no-checks 'Bind the session to no health check'
            cand --keep-key 'Leave the key in place on release'
            cand --no-guarantee 'Go on where the promise cannot be kept; every run says so'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;acquire'= {
            cand --pid 'With --hold: until this process has ended'
            cand --max 'With --hold: release it after this long'
            cand -w 'Give up after this; 0 is one attempt'
            cand --wait 'Give up after this; 0 is one attempt'
            cand --limit 'Up to N holders at once: a semaphore'
            cand -E 'Exit code for "not acquired"'
            cand --conflict-exit-code 'Exit code for "not acquired"'
            cand --retry-for 'How long a Consul that does not answer is asked again while acquiring and releasing [default: 30s]'
            cand --value 'What the key says while it is held [default: a record of host, pid, user, program]'
            cand --session 'Lock under this session, not one of our own'
            cand --session-name 'The session''s name [default: consul-lock KEY]'
            cand --ttl 'The session''s TTL, 10s to 24h [default: 15s]'
            cand --lock-delay 'Pause before a lost lock''s next holder'
            cand --behavior 'What becomes of the key when the session ends by itself [default: release]'
            cand --check 'Bind the session to this health check instead of serfHealth; repeatable'
            cand --local 'local'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --export 'Print shell variables for `eval`'
            cand --hold 'Renew it in the background (--pid or --max)'
            cand --no-guarantee 'Allow a lock delay of 0, with which the next holder may start while this one''s script still works'
            cand --shared 'As a reader, beside other readers'
            cand -n 'Give up at once if it is taken: --wait 0'
            cand --no-wait 'Give up at once if it is taken: --wait 0'
            cand --no-checks 'Bind the session to no health check'
            cand --keep-key 'Leave the key in place on release'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;renew'= {
            cand --session 'The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION]'
            cand --retry-for 'How long a Consul that does not answer is asked again [default: 30s]'
            cand --local 'local'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --export 'Print CONSUL_LOCK_EXPIRES for `eval`, or `(exit N)`'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;release'= {
            cand --session 'The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION]'
            cand --retry-for 'How long a Consul that does not answer is asked again [default: 30s]'
            cand --local 'local'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --keep-key 'Leave the key in place, with its value; so does a lock that was acquired with --keep-key'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;status'= {
            cand --retry-for 'How long a Consul that does not answer is asked again [default: 5s]'
            cand --local 'Lock on this machine only, without Consul'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --json 'One JSON object instead of text'
            cand --watch 'Go on, and show it again whenever it changes'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;list'= {
            cand --retry-for 'How long a Consul that does not answer is asked again [default: 5s]'
            cand --local 'Lock on this machine only, without Consul'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --json 'One JSON object a line instead of a table'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;wait'= {
            cand -w 'Give up after this long, with exit code 75; 0 is one look [default: wait for ever]'
            cand --wait 'Give up after this long, with exit code 75; 0 is one look [default: wait for ever]'
            cand --retry-for 'How long a Consul that does not answer is asked again [default: 30s]'
            cand --local 'Lock on this machine only, without Consul'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;evict'= {
            cand --session 'Only if this session holds it; one of several that do. Else the exit code is 75'
            cand --retry-for 'How long a Consul that does not answer is asked again [default: 5s]'
            cand --local 'Refused with the reason'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand -y 'Do not ask'
            cand --yes 'Do not ask'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;doctor'= {
            cand --local 'local'
            cand --ttl 'The session''s TTL, 10s to 24h [default: 15s]'
            cand --lock-delay 'Consul''s pause between a lost lock and its next holder, up to 60s [default: 30s]'
            cand -k 'Time between the first signal and SIGKILL [default: 5s]'
            cand --kill-after 'Time between the first signal and SIGKILL [default: 5s]'
            cand --check 'Try a session that is bound to this health check instead of serfHealth; repeatable'
            cand --http-addr 'Consul''s address [CONSUL_HTTP_ADDR]'
            cand --token 'ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN]'
            cand --token-file 'ACL token''s file [CONSUL_HTTP_TOKEN_FILE]'
            cand --ca-file 'CA certificate in PEM [CONSUL_CACERT]'
            cand --ca-path 'Folder of CA certificates in PEM [CONSUL_CAPATH]'
            cand --client-cert 'Client certificate in PEM [CONSUL_CLIENT_CERT]'
            cand --client-key 'The client certificate''s key in PEM [CONSUL_CLIENT_KEY]'
            cand --tls-server-name 'Name that the server''s certificate must carry [CONSUL_TLS_SERVER_NAME]'
            cand --datacenter 'Datacenter of the lock [default: the agent''s]'
            cand --namespace 'Namespace, Consul Enterprise [CONSUL_NAMESPACE]'
            cand --partition 'Partition, Consul Enterprise [CONSUL_PARTITION]'
            cand --log-format 'Text, or a JSON object a line'
            cand --color 'Colours in messages; NO_COLOR is respected'
            cand --json 'Print one JSON object instead of lines'
            cand --no-checks 'Try a session that is bound to no health check'
            cand --no-guarantee 'Warn, and do not fail, where a run could not keep its promise'
            cand -q 'Say nothing but errors and losses'
            cand --quiet 'Say nothing but errors and losses'
            cand -v 'Say more; twice: each confirmation'
            cand --verbose 'Say more; twice: each confirmation'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;completions'= {
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;man'= {
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'consul-lock;help'= {
            cand run 'Hold the lock while a command runs'
            cand acquire 'Acquire a lock for a script whose steps are separate processes'
            cand renew 'Renew a lock that `acquire` has acquired, and make sure that it is still held'
            cand release 'Release a lock that `acquire` has acquired'
            cand status 'Show who holds a lock, since when, from where, and who waits for it'
            cand list 'List the locks below a prefix'
            cand wait 'Wait until nobody holds a lock'
            cand evict 'Take a lock from its holder by ending its session'
            cand doctor 'Check all that a lock needs, each with its mend'
            cand completions 'Print completions for a shell'
            cand man 'Print a page of the manual'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'consul-lock;help;run'= {
        }
        &'consul-lock;help;acquire'= {
        }
        &'consul-lock;help;renew'= {
        }
        &'consul-lock;help;release'= {
        }
        &'consul-lock;help;status'= {
        }
        &'consul-lock;help;list'= {
        }
        &'consul-lock;help;wait'= {
        }
        &'consul-lock;help;evict'= {
        }
        &'consul-lock;help;doctor'= {
        }
        &'consul-lock;help;completions'= {
        }
        &'consul-lock;help;man'= {
        }
        &'consul-lock;help;help'= {
        }
    ]
    $completions[$command]
}

# Names of locks, asked of Consul for 300 ms at most; after -- whatever the shell offers for that command.
var consul-lock-flags~ = $edit:completion:arg-completer[consul-lock]
set edit:completion:arg-completer[consul-lock] = {|@words|
    var command = []
    var is-command = $false
    for word $words[..-1] {
        if $is-command {
            set command = (conj $command $word)
        } elif (eq $word --) {
            set is-command = $true
        }
    }
    if $is-command {
        if (== (count $command) 0) {
            edit:complete-sudo sudo $words[-1]
        } else {
            edit:complete-sudo sudo $@command $words[-1]
        }
    } else {
        var names = []
        try {
            set names = [(e:consul-lock names --current=$words[-1] -- (all $words[1..-1]) 2>/dev/null </dev/null | from-lines)]
        } catch { }
        if (> (count $names) 0) {
            for name $names {
                if (str:has-suffix $name /) {
                    edit:complex-candidate $name
                } else {
                    edit:complex-candidate $name &code-suffix=' '
                }
            }
        } elif (> (count $words) 3) {
            consul-lock-flags $words[0] $words[1] $words[-1]
        } else {
            consul-lock-flags $@words
        }
    }
}
