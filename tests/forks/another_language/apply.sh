#!/bin/sh
# Another language: preprocess is a shell script with awk, in an image without the base and without a Python program.
# Called at the top of a clone: sh tests/forks/another_language/apply.sh
set -eu
here=$(dirname "$0")

rm -r stages/preprocess
cp -R "$here/stages/preprocess" stages/
sed '/^preprocess:/,/^$/ {
    /test_size:/d
    s/^  seed:.*/  every: 5 # of each class every 5th row is for the test, 2 or more: 30 of the 150, 10 a class/
}' params.yaml > params.yaml.new
mv params.yaml.new params.yaml
