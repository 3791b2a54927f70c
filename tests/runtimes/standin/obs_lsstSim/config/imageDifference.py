# SPDX-License-Identifier: BSD-3-Clause
config.kernelSourcesFromRef = True
config.doDecorrelation = True
