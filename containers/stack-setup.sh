# SPDX-License-Identifier: BSD-3-Clause
# What a person types after logging in: EUPS, the release, and obs_lsstSim from its checkout.
source /opt/lsst/software/stack/loadLSST.bash &&
    setup "$(cat /opt/diffrun/stack-product)" &&
    setup -j -r /opt/diffrun/obs_lsstSim
