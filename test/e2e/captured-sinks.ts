import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { tlsFixture } from '../audit/syslog-receiver.ts';
import type { Settings } from '../support/deployment.ts';
import type { Closer } from '../support/temporary.ts';

const listen = async (server: Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

/** Receivers that keep whatever bytes come to them, for tests that look for what must not be in them. */
export interface CapturedSinks {
  /** What the OTLP receiver is sent to be let in. */
  readonly token: string;
  /** Sets both sinks in the configuration of a relay or an agent. */
  readonly edit: (settings: Settings) => void;
  readonly text: (sink: 'syslog' | 'otlp') => string;
}

/** Starts both; they end with the test. */
export const captureSinks = async (t: Closer, directory: string): Promise<CapturedSinks> => {
  const taken = { syslog: [] as Buffer[], otlp: [] as Buffer[] };
  const tls = await tlsFixture(directory);
  const { certFile, keyFile } = await tls.certificate('receiver', ['localhost']);
  const syslog = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => taken.syslog.push(chunk));
  });
  const otlp = createHttpServer((request, response) => {
    request.on('data', (chunk: Buffer) => taken.otlp.push(chunk));
    request.on('end', () => response.end());
  });
  const syslogPort = await listen(syslog);
  const otlpPort = await listen(otlp);
  t.after(() => {
    syslog.close();
    otlp.close();
    otlp.closeAllConnections();
  });
  const token = 'planted-token-of-the-otlp-receiver';
  const headers = join(directory, 'headers');
  writeFileSync(headers, `Authorization: Bearer ${token}\n`, { mode: 0o600 });
  return {
    token,
    edit: (settings) => {
      const audit = settings.audit as Settings;
      audit.syslog = { address: `localhost:${syslogPort}`, ca_file: tls.caFile, confirm_seconds: 0.5 };
      audit.otlp = { endpoint: `http://127.0.0.1:${otlpPort}/v1/logs`, headers_file: headers };
    },
    text: (sink) => Buffer.concat(taken[sink]).toString('utf8'),
  };
};
