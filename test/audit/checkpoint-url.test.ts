import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer as createPlain, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecure } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { after, before, test } from 'node:test';
import { UrlPlace } from '../../src/audit/checkpoint/url-place.ts';
import {
  createAuthority,
  createLinkCertificate,
  createServerCertificate,
  spkiFingerprint,
  systemClock,
} from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { decision, openLog } from './audit-fixture.ts';
import { checkpointStore, found, verifyStore } from './checkpoint-fixture.ts';

const LINE = '{"checkpoint":{},"signature":""}';
const QUICK = { answerMs: 200, pausesMs: [1, 1] };
const QUICK_TLS = { answerMs: 20_000, pausesMs: [] };
const NO_SIGNAL = new AbortController().signal;
const OK = 204;
const BUSY = 503;

interface Received {
  readonly body: string;
  readonly request: IncomingMessage;
}

/** What a receiver does with a request whose body it has: the answer's status, or nothing at all. */
type Answer = (received: Received, response: ServerResponse) => void;

interface Receiver {
  readonly url: string;
  readonly bodies: string[];
  readonly requests: IncomingMessage[];
}

const handler =
  (receiver: Omit<Receiver, 'url'>, answer: Answer) =>
  (request: IncomingMessage, response: ServerResponse): void => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const body = Buffer.concat(parts).toString('utf8');
      receiver.bodies.push(body);
      receiver.requests.push(request);
      answer({ body, request }, response);
    });
    response.on('error', () => undefined);
  };

const receive = async (t: Closer, answer: Answer): Promise<Receiver> => {
  const receiver: Omit<Receiver, 'url'> = { bodies: [], requests: [] };
  const server = createPlain(handler(receiver, answer)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { ...receiver, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/checkpoints` };
};

const status =
  (code: number): Answer =>
  (_received, response) =>
    response.writeHead(code).end();

test('a checkpoint is posted as JSON, and taken when the server says so', async (t) => {
  const receiver = await receive(t, status(OK));
  await new UrlPlace({ url: receiver.url }, systemClock, QUICK).take(LINE, NO_SIGNAL);
  assert.deepEqual(receiver.bodies, [LINE]);
  const request = receiver.requests[0]!;
  assert.equal(request.method, 'POST');
  assert.equal(request.url, '/checkpoints');
  assert.equal(request.headers['content-type'], 'application/json');
  assert.equal(request.headers.authorization, undefined);
});

test('a server that fails is asked three times, one that refuses once, and no redirect is followed', async (t) => {
  let left = 2;
  const recovering = await receive(t, (received, response) =>
    status(left-- > 0 ? BUSY : OK)(received, response),
  );
  await new UrlPlace({ url: recovering.url }, systemClock, QUICK).take(LINE, NO_SIGNAL);
  assert.deepEqual(recovering.bodies, [LINE, LINE, LINE]);
  const expected: [number, number][] = [
    [BUSY, 3],
    [429, 3],
    [408, 3],
    [403, 1],
    [400, 1],
  ];
  for (const [code, tries] of expected) {
    const receiver = await receive(t, status(code));
    const place = new UrlPlace({ url: receiver.url }, systemClock, QUICK);
    await assert.rejects(place.take(LINE, NO_SIGNAL), { message: `the server answers ${code}` });
    assert.equal(receiver.bodies.length, tries, String(code));
  }
  const elsewhere = await receive(t, status(OK));
  const leading = await receive(t, (_received, response) => {
    response.writeHead(307, { location: elsewhere.url }).end();
  });
  await assert.rejects(new UrlPlace({ url: leading.url }, systemClock, QUICK).take(LINE, NO_SIGNAL));
  assert.equal(elsewhere.bodies.length, 0);
});

test('a server that holds its answer, or sends it for ever, is given up', async (t) => {
  const holding = await receive(t, () => undefined);
  const place = new UrlPlace({ url: holding.url }, systemClock, QUICK);
  await assert.rejects(place.take(LINE, NO_SIGNAL), { message: 'no answer within 200 ms' });
  assert.equal(holding.bodies.length, 3);
  const endless = await receive(t, (_received, response) => {
    response.writeHead(200);
    response.write('x'.repeat(1024 * 1024));
  });
  await new UrlPlace({ url: endless.url }, systemClock, QUICK).take(LINE, NO_SIGNAL);
  assert.equal(endless.bodies.length, 1, 'its status is enough');
});

test('a stop ends a request that is under way', async (t) => {
  const stop = new AbortController();
  const holding = await receive(t, () => stop.abort(new Error('the process ends')));
  const place = new UrlPlace({ url: holding.url }, systemClock, { answerMs: 60_000, pausesMs: [60_000] });
  await assert.rejects(place.take(LINE, stop.signal));
  assert.equal(holding.bodies.length, 1);
});

test('over TLS the server is checked, and sees token and certificate of the writer', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-tls');
  const authority = await createAuthority('test CA', systemClock);
  const own = await createServerCertificate(authority, ['127.0.0.1'], systemClock);
  const client = await createLinkCertificate('agent-1', systemClock);
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const receiver: Omit<Receiver, 'url'> = { bodies: [], requests: [] };
  const spkis: string[] = [];
  const server = createSecure(
    { cert: own.certPem, key: own.keyPem, requestCert: true, rejectUnauthorized: false },
    handler(receiver, ({ request }, response) => {
      assert.ok(request.socket instanceof TLSSocket);
      spkis.push(spkiFingerprint(request.socket.getPeerX509Certificate()!));
      response.writeHead(OK).end();
    }),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const service = {
    url,
    tokenFile: file('token', 'test-only-token\n'),
    caFile: file('ca.pem', authority.certPem),
    clientCertFile: file('client.pem', client.certPem),
    clientKeyFile: file('client.key', client.keyPem),
  };
  await new UrlPlace(service, systemClock, QUICK_TLS).take(LINE, NO_SIGNAL);
  assert.equal(receiver.requests[0]?.headers.authorization, 'Bearer test-only-token');
  assert.deepEqual(spkis, [client.spki]);
  const stranger = { ...service, caFile: undefined };
  await assert.rejects(new UrlPlace(stranger, systemClock, QUICK_TLS).take(LINE, NO_SIGNAL), /certificate/);
  assert.equal(receiver.bodies.length, 1);
});

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

test('a receiver that fails, holds and answers late misses none, and decisions go on meanwhile', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-url');
  const store = await checkpointStore(postgres, directory);
  let isAway = true;
  const late: ServerResponse[] = [];
  const kept: string[] = [];
  const receiver = await receive(t, ({ body }, response) => {
    // What it says it could not take, it has kept all the same: the worst kind.
    if (isAway) kept.push(body);
    if (isAway && kept.length % 2 === 0) late.push(response);
    else {
      if (!isAway) kept.push(body);
      response.writeHead(isAway ? BUSY : OK).end();
    }
  });
  const log = await openLog(directory, {
    database: { url: store.writer },
    checkpoints: { file: undefined, service: { url: receiver.url }, everyMs: 20 },
  });
  t.after(() => log.close());
  await eventually('a request is held', () => (late.length > 0 ? true : undefined));
  assert.ok((await log.record(decision(1))).seq > 0);
  isAway = false;
  for (const response of late.splice(0)) response.writeHead(BUSY).end();
  await eventually('it takes them again', () => (new Set(kept).size >= 3 ? true : undefined));
  await log.close();
  assert.equal(log.health().checkpoints?.[0]?.error, undefined);
  const file = join(directory, 'received.jsonl');
  writeFileSync(file, kept.map((line) => `${line}\n`).join(''));
  const report = await verifyStore(store, { checkpointFiles: [store.file, file] });
  assert.deepEqual(found(report), []);
  assert.equal(report.checkpoints, 3 + new Set(kept).size);
  assert.equal(report.truncation, 'checked');
});
