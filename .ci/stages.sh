# Stages: what is run, for how long, and what came of it. Sourced by .ci/run and .ci/beside, which share the folder $CI_WORK.
# What this machine cannot do is left out, loudly; so is what would not be done within the hour.
limit_s=3540
of_timeout=() # further options of timeout(1)

loud() { printf '!!\n!! %s\n!!\n' "$*"; }

note() { printf '%-18s %6s   %s\n' "$@" >>"$CI_WORK/table"; } # stage, seconds, outcome

stage() { # name, command...
    local name=$1 began=$SECONDS outcome=passed
    shift
    ! grep -q ' FAILED' "$CI_WORK/table" 2>/dev/null || exit 1 # beside this one
    echo "== $name"
    if ! timed "$@"; then
        loud "$name FAILED after $((SECONDS - began)) s; once more, to tell a busy machine from a defect: a stage that fails at times is one"
        outcome="passed the second time"
        timed "$@" || { note "$name" $((SECONDS - began)) FAILED; exit 1; }
    fi
    echo "== $name: $((SECONDS - began)) s"
    note "$name" $((SECONDS - began)) "$outcome"
}

timed() { # command...: ended when the hour is over
    local left_s=$((limit_s - SECONDS))
    [ "$left_s" -gt 0 ] || { loud "the hour is over before: $*"; return 124; }
    timeout ${of_timeout[@]+"${of_timeout[@]}"} --kill-after=30 "$left_s" "$@"
}

optional() { # name, seconds that it may take, why it cannot be run here ("" = it can), command...
    local name=$1 needs_s=$2 why=$3
    shift 3
    if [ -z "$why" ] && [ $((SECONDS + needs_s)) -gt "$limit_s" ]; then
        why="it may take $needs_s s, and $((limit_s - SECONDS)) s are left of the hour"
    fi
    if [ -n "$why" ]; then
        loud "NOT RUN: $name: $why"
        note "$name" - "NOT RUN: $why"
        return 0
    fi
    stage "$name" "$@"
}

begin_beside() { # script: run its stages while others are run; it is told the seconds so far
    setsid "$1" "$SECONDS" &
    beside=$!
}

end_beside() { # wait for them; what failed there fails the run
    local began=$SECONDS
    wait "$beside" || exit 1
    beside=
    [ "$SECONDS" = "$began" ] || note "(waited for those)" $((SECONDS - began)) ""
}

over() { # what runs beside ends with the run, and the table is the last that is said
    [ -z "${beside:-}" ] || { kill -- "-$beside" 2>/dev/null || true; wait "$beside" || true; }
    echo
    note "all of it" "$SECONDS" ""
    printf '%-18s %6s   %s\n' stage s outcome
    cat "$CI_WORK/table"
    rm -rf "$CI_WORK"
}

stand_back() { # this process and its children take only the time that nobody else wants
    chrt --idle --pid 0 $$ 2>/dev/null || renice -n 19 $$ >/dev/null
    ionice -c 3 -p $$ 2>/dev/null || true
    # sched(7), "The autogroup feature": what is weighed first is the session, whatever runs in it.
    { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
    of_timeout=(--foreground) # in this process group, which `over` ends
}

hold_back() { # what a stage prints comes in one piece, when the stage is over
    local held=$CI_WORK/held
    exec 3>&1 >>"$held" 2>&1
    trap 'exit 143' TERM
    trap 'show_held' EXIT
    show_held() { cat "$CI_WORK/held" >&3; : >"$CI_WORK/held"; }
    note() { show_held; printf '%-18s %6s   %s\n' "$1" "$2" "$3, beside others" >>"$CI_WORK/table"; }
}
