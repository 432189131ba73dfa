"""Calls the code system through a gateway as any app would: grpcio, stubs made from the proto files.

    calls.py PROTO_DIR GATEWAY NODE SUBJECT_HEX
"""
import os, pathlib, sys, tempfile, time, uuid

import grpc
import grpc_tools
from grpc_reflection.v1alpha import reflection_pb2
from grpc_tools import protoc

REGION = 440100


def stubs(protos):
    """Compiles the contract into a directory of its own and imports it."""
    out = tempfile.mkdtemp()
    files = sorted(str(path) for path in pathlib.Path(protos, "suiyue", "v1").glob("*.proto"))
    include = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
    arguments = ["protoc", f"-I{protos}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    assert protoc.main(arguments) == 0, "the proto files do not compile"
    sys.path.insert(0, out)
    from suiyue.v1 import codes_pb2, codes_pb2_grpc, status_pb2, status_pb2_grpc

    return codes_pb2, codes_pb2_grpc, status_pb2, status_pb2_grpc


def services(channel):
    """Asks reflection v1, whose messages are those of v1alpha under another name."""
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20)
    return {service.name for answer in answers for service in answer.list_services_response.service}


def served_by(call):
    return dict(call.initial_metadata()).get("suiyue-served-by")


def main():
    protos, gateway, node, subject = sys.argv[1:]
    subject = bytes.fromhex(subject)
    codes_pb2, codes_grpc, status_pb2, status_grpc = stubs(protos)
    with grpc.insecure_channel(gateway) as channel, grpc.insecure_channel(node) as direct:
        for name, where in (("gateway", channel), ("node", direct)):
            found = services(where)
            for wanted in ("suiyue.v1.CodeService", "suiyue.v1.StatusService", "grpc.health.v1.Health"):
                assert wanted in found, f"reflection of the {name} lists {found}"
        codes, status = codes_grpc.CodeServiceStub(channel), status_grpc.StatusServiceStub(channel)

        show = codes_pb2.ShowCodeRequest(region=REGION, subject=subject)
        shown, call = codes.ShowCode.with_call(show, timeout=20)
        assert shown.code.startswith("SY1:440100:") and shown.served.node == served_by(call) == "suikang", shown

        verify = codes_pb2.VerifyCodeRequest(region=REGION, code=shown.code, request_id=uuid.uuid4().bytes)
        verified, call = codes.VerifyCode.with_call(verify, timeout=20)
        assert verified.result.verdict != codes_pb2.VERDICT_UNKNOWN, verified
        assert verified.result.level == shown.level and served_by(call) == "suikang", verified

        scans = [
            codes_pb2.Scan(
                scan_id=uuid.uuid4().bytes,
                device_counter=n,
                device="gate-1",
                place="station",
                code=shown.code,
                scanned_unix_ms=int(time.time() * 1000),
                verdict=verified.result.verdict,
            )
            for n in range(1, 11)
        ]
        batches = [codes_pb2.RecordScansRequest(region=REGION, scans=[scan]) for scan in scans]
        answers = list(codes.RecordScans(iter(batches), timeout=20))
        receipts = {receipt.scan_id: receipt.outcome for answer in answers for receipt in answer.receipts}
        assert receipts == {scan.scan_id: codes_pb2.SCAN_OUTCOME_STORED for scan in scans}, answers

        watch = status.WatchStatus(status_pb2.WatchStatusRequest(region=REGION, subject=subject))
        level = next(watch).status.level
        other = codes_pb2.LEVEL_RED if level == codes_pb2.LEVEL_YELLOW else codes_pb2.LEVEL_YELLOW
        commit = status_pb2.CommitStatusRequest(
            region=REGION, subject=subject, level=other, reason="test-overdue", request_id=uuid.uuid4().bytes
        )
        assert status.CommitStatus(commit, timeout=20).status.level == other
        assert next(watch).status.level == other
        watch.cancel()

        try:
            codes.ShowCode(codes_pb2.ShowCodeRequest(region=445555, subject=subject), timeout=20)
            raise AssertionError("an unknown region was served")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            assert b"REGION_UNKNOWN" in details, details
    print("all calls answered")


main()
