#!/usr/bin/env python3
"""Runs a given peers.py with the header `suiyue-region: 440100` in every request that it sends.

    peers_with_region.py PATH/peers.py [arguments of peers.py]

All peers get the header, so that all of them carry the same bytes. For the whole measure of a gateway:

    SUIYUE_BIN=target/dist/suiyue REGIONS=340 tests/bench/peers_with_region.py ../shared/bench/peers.py \\
        --only envoy,haproxy,nghttpx --parts sat,sys --candidate "ours=sh $PWD/tests/bench/candidate.sh"
"""
import importlib.util, sys

REGION = "suiyue-region: 440100"


def load(path):
    spec = importlib.util.spec_from_file_location("peers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    peers = load(sys.argv.pop(1))
    # h2load is told its headers by this list wherever it is started.
    peers.H2 += ["-H", REGION]
    plain = peers.loadgen
    peers.loadgen = lambda args, *rest, **more: plain([*args, "--header", REGION], *rest, **more)
    if len(sys.argv) == 3 and sys.argv[1] == "--report":
        import json

        return peers.report(json.load(open(sys.argv[2])))
    peers.main()


main()
