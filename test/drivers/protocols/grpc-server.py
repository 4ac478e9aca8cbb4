"""ADDRESS CERT_FILE KEY_FILE: calls of bytes: echo, a stream of messages, and one that waits for its own cancellation."""
import concurrent.futures
import sys
import threading

import grpc

address, cert_file, key_file = sys.argv[1:]
MESSAGES = 500
MESSAGE_BYTES = 16_384
DEADLINE_SECONDS = 60
cancelled = {}
lock = threading.Lock()


def event_of(name):
    with lock:
        return cancelled.setdefault(name, threading.Event())


def stream(request, _context):
    for at in range(MESSAGES):
        yield (request + at.to_bytes(4, 'big')) * (MESSAGE_BYTES // (len(request) + 4))


def wait(request, context):
    context.add_callback(event_of(request).set)
    event_of(request).wait(DEADLINE_SECONDS)
    return b'nobody cancelled'


def was_cancelled(request, _context):
    return b'yes' if event_of(request).wait(DEADLINE_SECONDS) else b'no'


def read(path):
    with open(path, 'rb') as file:
        return file.read()


server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
unary = grpc.unary_unary_rpc_method_handler
handlers = {
    'Echo': unary(lambda request, _context: request),
    'Stream': grpc.unary_stream_rpc_method_handler(stream),
    'Wait': unary(wait),
    'WasCancelled': unary(was_cancelled),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('test.Calls', handlers),))
credentials = grpc.ssl_server_credentials([(read(key_file), read(cert_file))])
server.add_secure_port(address, credentials)
server.start()
print('serving', flush=True)
server.wait_for_termination()
