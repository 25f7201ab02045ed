#!/bin/sh
# Another data set: breast cancer, whose target is `diagnosis`. Only ingest knows its columns.
# Called at the top of a clone: sh tests/forks/breast_cancer/apply.sh
set -eu
here=$(dirname "$0")

edit() { # a file, by a sed script
    sed "$2" "$1" > "$1.new"
    mv "$1.new" "$1"
}

rm -r stages/ingest
cp -R "$here/stages/ingest" stages/
edit dvc.yaml.template 's/iris\.csv/breast_cancer.csv/; s/{%- set source .*%}//
                        /stage("ingest"/,/}}/c\
{{ stage("ingest", outputs={"out": "data/raw/breast_cancer.csv"}) }}'
edit params.yaml '/^ingest:/,/^$/d
                  s/experiment: iris /experiment: breast-cancer /; s/model: iris-classifier/model: tumour-classifier/
                  s/: 30 of the 150, 10 a class/: 114 of the 569/'
