import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { fileURLToPath } from 'node:url';
import { findProgram } from '../../support/command.ts';
import type { PrivateNetwork } from '../../support/private-network.ts';
import type { Closer } from '../../support/temporary.ts';
import type { DriverCase, PublishedTarget } from '../family.ts';
import { API_HOST } from './api.ts';

const HTTP2: PublishedTarget = { host: API_HOST, port: 443 };
/** That are open at the same time, on one connection. */
const TOGETHER = 100;
const PAGE = Buffer.alloc(256 * 1024, 'page');
const PAGES = 20;

/** POST: answers with the body, once so many requests of the same connection have come. GET: a page. */
export const startHttp2 = async (
  t: Closer,
  network: PrivateNetwork,
  { certFile, keyFile }: { readonly certFile: string; readonly keyFile: string },
): Promise<{ targets: Record<string, PublishedTarget>; cases: DriverCase[] }> => {
  const server = createSecureServer({
    cert: readFileSync(certFile),
    key: readFileSync(keyFile),
    settings: { maxConcurrentStreams: 2 * TOGETHER },
  });
  const waiting = new Map<ServerHttp2Session, ServerHttp2Stream[]>();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => {
      sessions.delete(session);
      waiting.delete(session);
    });
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    if (headers[':method'] === 'GET') {
      stream.respond({ ':status': 200 });
      stream.end(PAGE);
      return;
    }
    const { session } = stream;
    if (session === undefined) return;
    const all = [...(waiting.get(session as ServerHttp2Session) ?? []), stream];
    waiting.set(session as ServerHttp2Session, all);
    if (all.length < TOGETHER) return;
    for (const one of all) {
      one.respond({ ':status': 200 });
      one.pipe(one);
    }
  });
  server.listen(HTTP2.port, network.addressOf(HTTP2.host));
  await once(server, 'listening');
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const url = `https://${HTTP2.host}/`;
  return {
    targets: { http2: HTTP2 },
    cases: [
      {
        name: 'node:http2, node:http2, 100 requests that wait for one another on one connection',
        connection: 'http2',
        program: process.execPath,
        args: [fileURLToPath(new URL('./http2-client.js', import.meta.url)), url, String(TOGETHER)],
        env: { NODE_EXTRA_CA_CERTS: network.caFile },
        prints: `${TOGETHER} bodies came back to their requests\n`,
        maxStreams: 1,
      },
      {
        name: 'curl, node:http2, 20 pages in parallel',
        connection: 'http2',
        program: findProgram('curl') ?? 'curl',
        args: [
          ...[
            '--silent',
            '--show-error',
            '--cacert',
            network.caFile,
            '--noproxy',
            '*',
            '--http2',
            '--parallel',
          ],
          ...['--output', '/dev/null', '--write-out', '%{http_version} %{http_code} %{size_download}\\n'],
          `${url}[1-${PAGES}]`,
        ],
        prints: `2 200 ${PAGE.length}\n`.repeat(PAGES),
        maxStreams: 1,
      },
    ],
  };
};
