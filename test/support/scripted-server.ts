import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Closer } from './temporary.ts';

/** A bundle server on loopback that answers as it is told at the moment; 503 at first. */
export const scriptedServer = async (
  t: Closer,
): Promise<{ url: string; requests: IncomingMessage[]; answer: (listener: RequestListener) => void }> => {
  let listener: RequestListener = (_request, response) => response.writeHead(503).end();
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    listener(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${String(port)}/bundles/policy.tar.gz`;
  return { url, requests, answer: (next) => (listener = next) };
};

/** Gives these bytes under this etag, or says that they are unchanged. */
export const giving =
  (bytes: Buffer, etag: string, headers: Record<string, string> = {}): RequestListener =>
  (request, response) => {
    if (request.headers['if-none-match'] === etag) response.writeHead(304, headers).end();
    else response.writeHead(200, { etag, 'content-length': bytes.length, ...headers }).end(bytes);
  };
