#!/bin/sh
# Two models: extremely randomized trees beside the random forest. Their stages are copies of train and evaluate; each
# model has a gate of its own.
# Called at the top of a clone: sh tests/forks/two_models/apply.sh
set -eu
here=$(dirname "$0")

edit() { # a file, by a sed script
    sed "$2" "$1" > "$1.new"
    mv "$1.new" "$1"
}

insert() { # into the file $1, before the line that begins with $2, the file $3
    awk -v line="$2" -v file="$3" 'index($0, line) == 1 { while ((getline new < file) > 0) print new } { print }' \
        "$1" > "$1.new"
    mv "$1.new" "$1"
}

copy_stage() { # the folder $1 as $2: program and test bear its name
    cp -R "stages/$1" "stages/$2"
    mv "stages/$2/$1.py" "stages/$2/$2.py"
    mv "stages/$2/test_$1.py" "stages/$2/test_$2.py"
    edit "stages/$2/test_$2.py" "s/^import $1\$/import $2 as $1/"
}

copy_stage train extra_trees
for file in stages/extra_trees/*extra_trees.py; do
    edit "$file" 's/RandomForestClassifier(/ExtraTreesClassifier(bootstrap=True, /
                  s/RandomForestClassifier/ExtraTreesClassifier/g'
done
copy_stage evaluate evaluate_extra

insert dvc.yaml.template 'artifacts:' "$here/stages.template"
insert dvc.yaml.template 'plots:' "$here/model.template"
insert params.yaml '# The two below are read' "$here/stages.yaml"
cat "$here/promotion_extra.yaml" >> params.yaml
