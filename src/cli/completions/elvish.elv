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
