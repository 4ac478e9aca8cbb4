// The private service of the benchmarks: verifies what it gets, sends the pattern, answers requests.
import { createServer, type Socket } from 'node:net';
import { isPattern, patternAt } from './pattern.ts';
import { decodeRequest, encodeUploadAnswer, MODE, REQUEST_BYTES, type LoadRequest } from './request.ts';

const WRITE_BYTES = 256 * 1024;

const upload = (socket: Socket, request: LoadRequest): ((chunk: Buffer) => void) => {
  let count = 0;
  let ok = true;
  socket.on('end', () => socket.end(encodeUploadAnswer(ok, count)));
  return (chunk) => {
    ok = ok && isPattern(chunk, request.seed + count);
    count += chunk.length;
  };
};

const download = (socket: Socket, request: LoadRequest): ((chunk: Buffer) => void) => {
  let position = request.seed;
  const until = request.durationMs === 0 ? Number.POSITIVE_INFINITY : performance.now() + request.durationMs;
  const send = (): void => {
    while (!socket.destroyed) {
      if (performance.now() >= until) {
        socket.off('drain', send);
        socket.end();
        return;
      }
      const more = socket.write(patternAt(position, WRITE_BYTES));
      position += WRITE_BYTES;
      if (!more) return;
    }
  };
  socket.on('drain', send);
  socket.on('end', () => socket.destroy());
  send();
  return () => undefined;
};

const echo = (socket: Socket, request: LoadRequest): ((chunk: Buffer) => void) => {
  let received = 0;
  let answered = 0;
  socket.on('end', () => socket.end());
  return (chunk) => {
    if (!isPattern(chunk, request.seed + received)) {
      socket.resetAndDestroy();
      return;
    }
    received += chunk.length;
    while ((answered + 1) * request.requestBytes <= received) {
      socket.write(patternAt(request.seed + answered * request.responseBytes, request.responseBytes));
      answered += 1;
    }
  };
};

const handlers = { [MODE.upload]: upload, [MODE.download]: download, [MODE.echo]: echo };

const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  let head: Buffer = Buffer.alloc(0);
  let handle: ((chunk: Buffer) => void) | undefined;
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    if (handle !== undefined) {
      handle(chunk);
      return;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < REQUEST_BYTES) return;
    const request = decodeRequest(head);
    handle = handlers[request.mode](socket, request);
    if (head.length > REQUEST_BYTES) handle(head.subarray(REQUEST_BYTES));
  });
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.on('disconnect', () => process.exit(0));
