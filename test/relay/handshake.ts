import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { CONTROL_PATH } from '../../src/protocol/index.ts';
import { CA, HOST, type Relay } from './relay-fixture.ts';

export interface Answer {
  readonly status: number;
  readonly code: string;
  readonly type: string | undefined;
  readonly retryAfter: string | undefined;
}

const upgradeHeaders = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': Buffer.alloc(16).toString('base64'),
  'Sec-WebSocket-Protocol': 'sallyport.v1',
};

/** One handshake, hung up as soon as it is answered. */
export const ask = async (
  relay: Relay,
  headers: Record<string, string | undefined>,
  path = CONTROL_PATH,
): Promise<Answer> => {
  const kept = Object.fromEntries(
    Object.entries(headers).filter(([, value]) => value !== undefined),
  ) as Record<string, string>;
  const sent = request({ host: HOST, port: relay.port, path, ca: CA, headers: kept, agent: false });
  sent.on('error', () => undefined);
  sent.end();
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    sent.once('response', resolve);
    sent.once('upgrade', (upgraded, socket) => {
      socket.destroy();
      resolve(upgraded);
    });
    sent.once('close', () => reject(new Error('no answer')));
  });
  if (response.statusCode === 101) return { status: 101, code: '', type: undefined, retryAfter: undefined };
  let body = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) body += chunk;
  const problem = JSON.parse(body) as { code: string; status: number; detail: string };
  assert.equal(problem.status, response.statusCode);
  return {
    status: problem.status,
    code: problem.code,
    type: response.headers['content-type'],
    retryAfter: response.headers['retry-after'],
  };
};

/** Headers of a handshake that is admitted. */
export const good = {
  ...upgradeHeaders,
  Authorization: 'key:k_send',
  'Sallyport-Connection': 'db',
  'Sallyport-Role': 'gateway',
};
