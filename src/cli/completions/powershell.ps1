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
