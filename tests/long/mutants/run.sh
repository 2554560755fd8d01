#!/usr/bin/env bash
# Seeded faults: each must be killed by the test of the rule it breaks. See README.md beside this file.
#   run.sh [filter]     filter: a glob over "rule id", for example 'T12*', '*lock*'; all when absent
#   JOBS=n              mutants at the same time (2)
#   LIMIT=seconds       for the tests of one mutant; a hang counts as killed (20)
#   CONFIGURATION=name  Debug
#   KEEP=1              keep the work folder
set -u -o pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
filter=${1:-*}
jobs=${JOBS:-2}
limit=${LIMIT:-20}
configuration=${CONFIGURATION:-Debug}
work=$(mktemp -d "${TMPDIR:-/tmp}/mutants.XXXXXX")
[[ -n ${KEEP:-} ]] && echo "work folder: $work" || trap 'rm -rf "$work"' EXIT
cd "$root"
export DMABUFIO_TEST_LIMIT_SECONDS=${DMABUFIO_TEST_LIMIT_SECONDS:-5} # what must come about and does not: a test says so after this long

sdk=$(dotnet --version) || exit 2
csc=$(dotnet --list-sdks | sed -n "s|^$sdk \[\(.*\)\]|\1/$sdk/Roslyn/bincore/csc.dll|p")
[[ -f $csc ]] || { echo "no compiler at '$csc'" >&2; exit 2; }

# --- The tables: one folder per mutant with the files rule, file, tests, methods, find, replace. ---------------------
read_table() {
    awk -v out="$work/mutant" -v table="$1" '
        function fail(text) { printf "%s:%d: %s\n", table, FNR, text > "/dev/stderr"; bad = 1; exit 1 }
        function finish() {
            if (id == "") return
            if (rule == "" || file == "" || methods == "" || blocks != 2) fail("mutant " id ": rule, file, test, find and replace are needed")
            print rule > (dir "/rule"); print file > (dir "/file"); print project > (dir "/tests"); printf "%s", methods > (dir "/methods")
            close(dir "/rule"); close(dir "/file"); close(dir "/tests"); close(dir "/methods")
        }
        block != "" {
            if ($0 == ">>>") { printf "%s", text > (dir "/" block); close(dir "/" block); block = ""; blocks++; next }
            text = text (lines++ ? "\n" : "") $0
            next
        }
        /^[ \t]*(#|$)/ { next }
        {
            key = $1; value = $0; sub(/^[^ \t]+[ \t]*/, "", value); sub(/[ \t]+$/, "", value)
        }
        key == "mutant" {
            finish()
            if (value !~ /^[A-Za-z0-9._-]+$/) fail("a mutant needs a name of letters, digits and -")
            id = value; dir = out "/" id; rule = file = methods = ""; project = "tests/DmaBufIo.Core.Tests"; blocks = 0
            if (system("mkdir -p \"" out "\" && mkdir \"" dir "\"") != 0) fail("mutant " id " appears twice")
            next
        }
        id == "" { fail("begins with no mutant") }
        key == "rule" { rule = value; next }
        key == "file" { file = value; next }
        key == "tests" { project = value; next }
        key == "alone" { print value > (dir "/alone"); close(dir "/alone"); next }
        key == "test" { methods = methods value "\n"; next }
        key == "find" || key == "replace" { if (value != "<<<") fail(key " needs <<<"); block = key; text = ""; lines = 0; next }
        { fail("unknown word " key) }
        END { if (!bad) { if (block != "") fail("a block is not ended"); finish() } exit bad }
    ' "$1"
}

mkdir -p "$work/mutant"
for table in "$here"/*.mutants; do
    read_table "$table" || exit 2
done
chosen=()
for dir in $(ls -d "$work"/mutant/*/ | sort -V); do
    id=$(basename "$dir")
    # shellcheck disable=SC2053 # a glob is meant
    [[ "$(<"$dir/rule") $id" == $filter || $id == $filter ]] && chosen+=("$id")
done
[[ ${#chosen[@]} -gt 0 ]] || { echo "no mutant matches '$filter'" >&2; exit 2; }

# --- Once per project: how it is compiled, and a built test folder. --------------------------------------------------
project_of() {
    local folder=$1
    while [[ $folder != . && $folder != / ]]; do
        folder=$(dirname "$folder")
        compgen -G "$folder/*.csproj" && return
    done
    return 1
}

key_of() { echo "${1//[\/ ]/_}"; }

for tests in $(for id in "${chosen[@]}"; do cat "$work/mutant/$id/tests"; done | sort -u); do
    dotnet build "$tests" -c "$configuration" -v q -nologo > "$work/build.log" || { cat "$work/build.log" >&2; exit 2; }
    built=$(dotnet msbuild "$tests" -p:Configuration="$configuration" -getProperty:TargetPath) || exit 2
    echo "$built" > "$work/built.$(key_of "$tests")"
done
for file in $(for id in "${chosen[@]}"; do cat "$work/mutant/$id/file"; done | sort -u); do
    project=$(project_of "$file") || { echo "$file belongs to no project" >&2; continue; }
    line="$work/line.$(key_of "$project")"
    [[ -f $line ]] && continue
    dotnet msbuild "$project" -t:Compile -v:q -nologo -p:Configuration="$configuration" -p:BuildProjectReferences=false \
        -p:SkipCompilerExecution=true -p:ProvideCommandLineArgs=true -p:IntermediateOutputPath="$work/obj.$(key_of "$project")/" \
        -p:CustomAfterMicrosoftCommonTargets="$here/commandline.targets" -p:CommandLineFile="$line.all" || exit 2

    # The folder for intermediate files holds for the referenced projects too: their assemblies are where the build of the tests has put them.
    while read -r reference; do
        name=${reference##*/}
        real=$(find "$root/Core" "$root/Plugins" -path "*/${name%.dll}/bin/$configuration/*/$name" | head -n 1)
        sed -i "s|^/reference:$reference\$|/reference:$real|" "$line.all"
    done < <(sed -n "s|^/reference:\($work/obj.*\.dll\)\$|\1|p" "$line.all")

    # Generators are needed, style is not; a mutant may leave a variable unused.
    grep -v -E '^/(doc|out|refout|analyzerconfig|errorlog|embed|sourcelink|warnaserror|pdb)' "$line.all" \
        | grep -v -E '^/analyzer:.*(NetAnalyzers|CodeStyle)' > "$line"
    echo "/warnaserror-" >> "$line"
    echo "/warn:0" >> "$line"
done

run_tests() { # folder, test assembly, methods file, log
    local arguments=()
    while read -r method; do arguments+=(-method "$method"); done < "$3"
    (cd "$1" && timeout -k 5 "$limit" dotnet "$2" "${arguments[@]}" -noColor -noLogo) > "$4" 2>&1
}

one() {
    local id=$1 dir="$work/mutant/$1" file tests project source find replace pre post assembly built method
    file=$(<"$dir/file"); tests=$(<"$dir/tests")
    verdict() { printf '%s\t%s\t%s\t%s\n' "$(<"$dir/rule")" "$id" "$1" "$2" > "$dir/verdict"; printf '%-12s %-44s %s\n' "$1" "$id" "$2"; }
    [[ -f $file ]] || { verdict "not applied" "no file $file"; return; }
    project=$(project_of "$file")
    source=$(cat "$file"; echo x); source=${source%x}
    find=$(cat "$dir/find"; echo x); find=${find%x}
    replace=$(cat "$dir/replace"; echo x); replace=${replace%x}
    pre=${source%%"$find"*}; post=${source#*"$find"}
    if [[ -z $find || $pre == "$source" ]]; then verdict "not applied" "the text to find is not in $file"; return; fi
    if [[ $post == *"$find"* ]]; then verdict "not applied" "the text to find is in $file more than once"; return; fi
    if [[ $find == "$replace" ]]; then verdict "not applied" "the replacement changes nothing"; return; fi
    printf '%s' "$pre$replace$post" > "$dir/$(basename "$file")"

    assembly=$(basename "$project" .csproj).dll
    built=$(<"$work/built.$(key_of "$tests")")
    # The other sources are read where they are; the one that is exchanged is named relative to its project.
    local relative=${file#"$(dirname "$project")"/}
    awk -v old="$relative" -v new="$dir/$(basename "$file")" '{ if ($0 == old) { print new; n++ } else print } END { exit n != 1 }' \
        "$work/line.$(key_of "$project")" > "$dir/line" || { verdict "not applied" "$relative is not compiled by $project"; return; }
    echo "/out:$dir/$assembly" >> "$dir/line"
    if ! (cd "$(dirname "$project")" && dotnet "$csc" /shared /noconfig "@$dir/line") > "$dir/compile.log" 2>&1; then
        verdict "not applied" "does not compile: $(grep -m1 'error' "$dir/compile.log")"
        return
    fi

    cp -al "$(dirname "$built")" "$dir/run" 2> /dev/null || cp -a "$(dirname "$built")" "$dir/run"
    [[ -f $dir/run/$assembly ]] || { verdict "not applied" "$assembly is not beside the tests"; return; }
    rm "$dir/run/$assembly"; cp "$dir/$assembly" "$dir/run/$assembly"
    run_tests "$dir/run" "$(basename "$built")" "$dir/methods" "$dir/test.log"
    local code=$?
    rm -rf "$dir/run"
    if [[ $code == 124 || $code == 137 ]]; then
        verdict killed "hang of $(paste -sd ' ' "$dir/methods") (more than $limit s)"
    elif [[ $code == 0 ]]; then
        verdict SURVIVED "$(paste -sd ' ' "$dir/methods")"
    else
        method=$(sed -n 's/^ *\([A-Za-z0-9_.+]*\.[A-Za-z0-9_]*\).*\[FAIL\].*/\1/p' "$dir/test.log" | head -1)
        verdict killed "${method:-the process ended with $code: $(grep -m1 -E 'Unhandled|assertion|Process terminated' "$dir/test.log")}"
    fi
}

# --- The tests must pass without a fault, or their failing proves nothing. -------------------------------------------
for built in "$work"/built.*; do
    key=${built##*/built.}
    for id in "${chosen[@]}"; do
        [[ $(key_of "$(<"$work/mutant/$id/tests")") == "$key" ]] && cat "$work/mutant/$id/methods"
    done | sort -u > "$work/methods.$key"
    (cd "$(dirname "$(<"$built")")" && dotnet "$(basename "$(<"$built")")" -list methods -noColor -noLogo) > "$work/tests.$key" || exit 2
    while read -r method; do
        found=
        # shellcheck disable=SC2053 # a glob is meant
        while read -r name; do [[ $name == $method ]] && found=1 && break; done < "$work/tests.$key"
        [[ -n $found ]] || { echo "no test is named '$method'" >&2; exit 2; }
    done < "$work/methods.$key"
    if ! limit=600 run_tests "$(dirname "$(<"$built")")" "$(basename "$(<"$built")")" "$work/methods.$key" "$work/baseline.log"; then
        tail -30 "$work/baseline.log" >&2
        echo "the tests fail without any fault" >&2
        exit 2
    fi
done

running=0
for id in "${chosen[@]}"; do
    [[ -f $work/mutant/$id/alone ]] && continue
    one "$id" &
    running=$((running + 1))
    if [[ $running -ge $jobs ]]; then wait -n; running=$((running - 1)); fi
done
wait
for id in "${chosen[@]}"; do
    [[ -f $work/mutant/$id/alone ]] && one "$id"
done

echo
printf '%-5s %-44s %s\n' rule mutant killer
for id in "${chosen[@]}"; do
    IFS=$'\t' read -r rule name verdict detail < "$work/mutant/$id/verdict"
    [[ $verdict == killed ]] && printf '%-5s %-44s %s\n' "$rule" "$name" "$detail" || printf '%-5s %-44s %s: %s\n' "$rule" "$name" "$verdict" "$detail"
done
count() { local n=0; for id in "${chosen[@]}"; do cut -f3 "$work/mutant/$id/verdict" | grep -qx "$1" && n=$((n + 1)); done; echo "$n"; }
killed=$(count killed); survived=$(count SURVIVED); unapplied=$(count 'not applied')
echo
echo "$killed killed, $survived survived, $unapplied not applied"
[[ $survived == 0 && $unapplied == 0 && $killed == "${#chosen[@]}" ]]
