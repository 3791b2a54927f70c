# SPDX-License-Identifier: BSD-3-Clause
# numba reads a cache only where it may write, so each run has its own copy of the compiled kernels.
cp -R --preserve=timestamps /opt/diffrun/kernels "$scratch/kernels" && export NUMBA_CACHE_DIR=$scratch/kernels
export PATH=/opt/diffrun/bin:$PATH
export LC_ALL=C.UTF-8
