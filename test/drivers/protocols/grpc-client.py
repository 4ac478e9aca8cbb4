"""HOST:PORT CA_FILE: unary calls, many of them at once, a stream of messages, and a deadline, over one channel."""
import os
import sys

import grpc

target, ca_file = sys.argv[1:]
with open(ca_file, 'rb') as file:
    credentials = grpc.ssl_channel_credentials(file.read())
AT_ONCE = 64
DEADLINE_SECONDS = 60

with grpc.secure_channel(target, credentials) as channel:
    echo = channel.unary_unary('/test.Calls/Echo')
    sent = os.urandom(1_000_000)
    back = echo(sent, timeout=DEADLINE_SECONDS)
    print(f'unary: {len(back) if back == sent else "other"} bytes came back')

    payloads = [os.urandom(10_000) for _ in range(AT_ONCE)]
    calls = [echo.future(payload, timeout=DEADLINE_SECONDS) for payload in payloads]
    same = [call.result() for call in calls] == payloads
    print(f'{AT_ONCE} at once: {"in their places" if same else "mixed up"}')

    prefix = os.urandom(12)
    count = 0
    for message in channel.unary_stream('/test.Calls/Stream')(prefix, timeout=DEADLINE_SECONDS):
        part = prefix + count.to_bytes(4, 'big')
        if message != part * (16_384 // len(part)):
            sys.exit(f'message {count} is another')
        count += 1
    print(f'{count} messages streamed, in order')

    name = os.urandom(8)
    try:
        channel.unary_unary('/test.Calls/Wait')(name, timeout=1)
    except grpc.RpcError as error:
        print(error.code().name)
    seen = channel.unary_unary('/test.Calls/WasCancelled')(name, timeout=DEADLINE_SECONDS)
    print('the server has seen it' if seen == b'yes' else 'the server has not seen it')
