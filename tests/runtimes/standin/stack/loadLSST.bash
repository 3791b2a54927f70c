# SPDX-License-Identifier: BSD-3-Clause
# A stand-in for EUPS, as its callers meet it: `setup` is a function of bash, a setup that fails returns 1
# with a word on standard error, PRODUCT_DIR and SETUP_PRODUCT are set and PATH and PYTHONPATH prepended,
# HOME is written to, and neither file bears `set -u`.
export LSST_HOME=/opt/lsst/software/stack
export EUPS_PATH=$LSST_HOME
mkdir -p "$HOME/.eups/ups_db" || { echo "eups: cannot write $HOME/.eups" >&2; return 1; }

setup() {
    local root= name= version=setup
    while [ $# -gt 0 ]; do
        case $1 in
            -r) root=$(cd "$2" && pwd); shift ;;
            -j | -k) ;;
            -t) version=$2; shift ;;
            -*) echo "setup: unknown option $1" >&2; return 1 ;;
            *) name=$1 ;;
        esac
        shift
    done
    if [ -n "$root" ]; then
        name=$(basename "$root"/ups/*.table .table)
    else
        root=$EUPS_PATH/$name
    fi
    if [ ! -d "$root" ] || [ -z "$name" ]; then
        echo "setup: Product $name not found" >&2
        return 1
    fi
    export "${name^^}_DIR=$root" "SETUP_${name^^}=$name $version -f Linux64 -Z $EUPS_PATH"
    export PATH=$root/bin:$PATH PYTHONPATH=$root/python:$PYTHONPATH
    [ "$name" != lsst_distrib ] || setup scons
}
export -f setup
