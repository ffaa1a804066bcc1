# Shortens the output of `go test -v`: of a package that passed, the skipped
# tests with their reasons, the numbers of crashes and comparisons, and the
# closing line; of one that failed, everything but the tests that passed.
# What ran against what goes to the file named by the variable summary.

/^=== (RUN|NAME|CONT|PAUSE)/ { lines[++n] = $0; test = $3; next }

/^[ \t]*--- SKIP: / {
	lines[++n] = $0
	if (reason[$3] ~ /Capabilities do not offer this/) next # counted in what ran against what
	if (reason[$3] == "") reason[$3] = "no reason given"
	skips = skips "SKIP  " $3 ": " reason[$3] "\n"
	next
}

/^FAIL$/ || /^PASS$/ || /^coverage:/ { lines[++n] = $0; next }

/^(ok|FAIL|\?)[ \t]/ || /^\t.*\[no test files\]$/ {
	if ($1 == "FAIL") {
		for (i = 1; i <= n; i++) if (lines[i] !~ /^=== (RUN|PAUSE|CONT|NAME)|^ *--- PASS/) print lines[i]
	} else {
		printf "%s%s", reports, skips
	}
	print
	if (against != "") ran = ran "  " $2 "\n" against
	n = 0; against = ""; delete named; skips = ""; reports = ""; test = ""
	delete reason; delete lines
	next
}

test == "" { print; next } # outside of any test: a build that broke

{
	lines[++n] = $0
	if (/ran against /) {
		text = $0
		sub(/^ +[^ ]+\.go:[0-9]+: ran against /, "", text)
		if (!(text in named)) against = against "    " text "\n"
		named[text] = 1
	}
	if (/crash points[:,] |[0-9] crashes|[0-9] kills|[0-9] of [0-9]+ (days|feature values)|, killed [0-9]|flat out: same/) {
		text = $0
		sub(/^ +[^ ]+\.go:[0-9]+: /, "", text)
		reports = reports "COUNT " test ": " text "\n"
	}
	if (test != "" && $0 ~ /^ +[^ ]+\.go:[0-9]+: /) {
		text = $0
		sub(/^ +[^ ]+\.go:[0-9]+: /, "", text)
		reason[test] = reason[test] == "" ? text : reason[test] " " text
	}
}

# Whatever came after the last closing line: a process that died.
END {
	for (i = 1; i <= n; i++) print lines[i]
	if (ran != "") printf "%s", ran > (summary != "" ? summary : "/dev/stdout")
}
