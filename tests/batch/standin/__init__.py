# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for the engine: products of any pair, made from the bytes of both calexps."""
