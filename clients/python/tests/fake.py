"""A vault that says what a test tells it to, over real mutual TLS: for what a real vault does not do on demand."""

from __future__ import annotations

import datetime as dt
import ipaddress
import threading
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf import message_factory

from lethe.admin.v1 import audit_pb2, log_pb2, vault_pb2
from lethe.v1 import certificate_pb2, hold_pb2, record_pb2, retention_pb2, schema_pb2, subject_pb2, tenant_pb2

FILES = (
    audit_pb2, certificate_pb2, hold_pb2, log_pb2, record_pb2, retention_pb2, schema_pb2, subject_pb2, tenant_pb2,
    vault_pb2,
)  # fmt: skip
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Fail:
    """An answer that is an error."""

    def __init__(self, code, details=""):
        self.code, self.details = code, details

    def abort(self, context):
        context.abort(self.code, self.details)


UNAVAILABLE = Fail(grpc.StatusCode.UNAVAILABLE)
EXHAUSTED = Fail(grpc.StatusCode.RESOURCE_EXHAUSTED)


class FakeVault(grpc.GenericRpcHandler):
    """`answers[path]` is a list: one answer (a message, a `Fail`, for streams a function) for each call; the last one
    serves all further calls. `seen` holds each (path, request, seconds that the caller granted)."""

    def __init__(self, folder):
        self.answers, self.seen, self._lock = {}, [], threading.Lock()
        ca_key, ca = _certificate("ca", None, None)
        key, cert = _certificate("server", ca_key, ca)
        client_key, client_cert = _certificate("client", ca_key, ca)
        self._credentials = grpc.ssl_server_credentials([(_pem(key), _pem(cert))], _pem(ca), True)
        self.port = 0
        self.start()
        for name, what in (("ca.pem", ca), ("c.pem", client_cert), ("c.key", client_key)):
            (folder / name).write_bytes(_pem(what))
            (folder / name).chmod(0o600)
        self.config = folder / "client.toml"
        self.config.write_text(
            f'endpoint = "https://127.0.0.1:{self.port}"\nca = "ca.pem"\ncert = "c.pem"\nkey = "c.key"\n'
        )

    def start(self):
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self._credentials)
        self._server.start()

    def stop(self):
        self._server.stop(None).wait(10)

    def requests(self, name):
        return [request for path, request, _ in self.seen if path.endswith(f"/{name}")]

    def answer(self, name, *answers):
        (path,) = [p for p in METHODS if p.endswith(f"/{name}")]
        self.answers[path] = list(answers)

    def _next(self, path, request, context):
        with self._lock:
            self.seen.append((path, request, context.time_remaining()))
            answers = self.answers[path]
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def service(self, details):
        path = details.method
        method = METHODS[path]
        read = message_factory.GetMessageClass(method.input_type).FromString
        write = message_factory.GetMessageClass(method.output_type).SerializeToString
        if path.endswith("/ImportRecords"):

            def both(incoming, context):
                yield from self._next(path, None, context)(incoming, context)

            return grpc.stream_stream_rpc_method_handler(both, read, write)
        if path.endswith(("/ExportRecords", "/WatchRecords", "/ExportAuditEntries")):

            def stream(request, context):
                yield from self._next(path, request, context)(request, context)

            return grpc.unary_stream_rpc_method_handler(stream, read, write)

        def unary(request, context):
            answer = self._next(path, request, context)
            if isinstance(answer, Fail):
                answer.abort(context)
            return answer(request, context) if callable(answer) else answer

        return grpc.unary_unary_rpc_method_handler(unary, read, write)


def _pem(what):
    if isinstance(what, x509.Certificate):
        return what.public_bytes(serialization.Encoding.PEM)
    return what.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(name, ca_key, ca):
    """A key, and a certificate for it by the CA; a new CA without one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    loopback = x509.SubjectAlternativeName([address, x509.DNSName("vault.internal")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(loopback, critical=False)
        .sign(ca_key or key, hashes.SHA256())
    )
    return key, made
