#!/bin/sh
# Splits the raw data into a training set and a test set: of each class, every so many rows one is for the test.
set -eu

refuse() { # one line for the user; 2: the input is at fault, not this program
    echo "error: preprocess: $1" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --raw) raw=$2 ;;
        --train_csv) train=$2 ;;
        --test_csv) test=$2 ;;
        --every) every=$2 ;;
        *) refuse "preprocess.${1#--} is no parameter; expected every: correct it in params.yaml" ;;
    esac
    shift 2
done
[ "$every" -ge 2 ] 2> /dev/null ||
    refuse "preprocess.every is '$every'; expected a whole number, 2 or more: correct it in params.yaml"

# Written beside, then renamed, so that a file with its own name is whole.
awk -F , -v every="$every" -v train="$train.part" -v test="$test.part" '
    NR == 1 { print > train; print > test; next }
    { print > (++rows[$NF] % every ? train : test) }
' "$raw"
for file in "$train" "$test"; do
    mv "$file.part" "$file"
    echo "$(($(wc -l < "$file") - 1)) rows -> $file"
done
