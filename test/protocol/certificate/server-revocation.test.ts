import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, utimesSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type Server } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { checkedHandshake } from '../../../src/protocol/certificate/checked-handshake.ts';
import { certificateFields } from '../../../src/protocol/certificate/certificate-fields.ts';
import { readCrl, UnusableCrl } from '../../../src/protocol/certificate/crl.ts';
import {
  type LoginDown,
  NodeLogin,
  type RevocationMode,
  ServerRevocation,
  type Side,
} from '../../../src/protocol/index.ts';
import { silentLogger, systemClock } from '../../../src/runtime/index.ts';
import { missingPrograms } from '../../support/command.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { type RevokingAuthority, revokingAuthority } from '../../support/revoking-authority.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const skip = missingPrograms({ openssl: 'openssl' });
const MAX_CRL_BYTES = 16 * 1024 * 1024;

const listening = async (t: TestContext, server: Server, port = 0): Promise<number> => {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
};

const withResolvers = <T>(): { promise: Promise<T>; resolve: (value: T) => void } => {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
};

interface World {
  readonly authority: RevokingAuthority;
  readonly other: RevokingAuthority;
  /** How the lists are served, by the path. */
  readonly lists: Record<'root' | 'intermediate', RequestListener>;
  readonly asked: string[];
  readonly stateDir: string;
  readonly crlPort: number;
  readonly relayPort: number;
  stopLists(): Promise<void>;
  /** One try to log in: how it failed, and whether the credential left this process. */
  login(role: Side, revocation: ServerRevocation): Promise<{ down: LoginDown; wasTold: boolean }>;
  revocation(
    mode: RevocationMode,
    options?: Partial<ConstructorParameters<typeof ServerRevocation>[0]>,
  ): ServerRevocation;
}

const gives =
  (bytes: () => Buffer): RequestListener =>
  (_request, response) =>
    response.end(bytes());

/** A TLS server with such a certificate that refuses every login, the lists of its authorities, and both ends' way in. */
const world = async (t: TestContext, withLists = true): Promise<World> => {
  const asked: string[] = [];
  const lists = {} as World['lists'];
  const http = createHttpServer((request, response) => {
    asked.push(request.url ?? '');
    lists[request.url?.includes('root') === true ? 'root' : 'intermediate'](request, response);
  });
  const crlPort = await listening(t, http);
  const base = `http://127.0.0.1:${String(crlPort)}`;
  const urls = { root: `${base}/root.crl`, intermediate: `${base}/intermediate.crl` };
  const authority = revokingAuthority(t, withLists ? urls : undefined);
  const other = revokingAuthority(t, urls);
  lists.root = gives(() => authority.crl('root'));
  lists.intermediate = gives(() => authority.crl('intermediate'));
  const relay = createTlsServer({
    cert: readFileSync(authority.certFile),
    key: readFileSync(authority.keyFile),
  });
  let told = 0;
  relay.on('upgrade', (request, socket) => {
    told += request.headers.authorization === undefined ? 0 : 1;
    socket.end('HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
  });
  const relayPort = await listening(t, relay);
  const stateDir = temporaryDirectory(t, 'state');
  return {
    authority,
    other,
    lists,
    asked,
    stateDir,
    crlPort,
    relayPort,
    async stopLists() {
      http.closeAllConnections();
      http.close();
      await once(http, 'close');
    },
    async login(role, revocation) {
      const before = told;
      const { promise, resolve } = withResolvers<LoginDown>();
      const login = new NodeLogin({
        node: { host: '127.0.0.1', control_port: relayPort, data_ports: [relayPort] },
        role,
        name: 'one',
        instance: 'one',
        instanceSecret: 'secret',
        build: '0.0.0',
        namespace: 'localhost',
        ca: readFileSync(authority.caFile, 'utf8'),
        revocation,
        clock: systemClock,
        logger: silentLogger,
        credentials: [
          {
            handle: 'one',
            connection: 'db',
            keyName: 'key',
            mint: (nowMs) => ({ token: 'token', expiresAtMs: nowMs + 60_000 }),
          },
        ],
        handlers: { onDown: resolve },
      });
      t.after(() => login.close());
      login.start();
      const down = await promise;
      // Before it tries again.
      await login.close();
      return { down, wasTold: told > before };
    },
    revocation: (mode, options = {}) =>
      new ServerRevocation({
        mode,
        stateDir,
        clock: systemClock,
        logger: silentLogger,
        proxyEnvironment: {},
        ...options,
      }),
  };
};

const ROLES: readonly Side[] = ['agent', 'gateway'];

/** What both ends do in each mode. `told`: they go on and send the credential. */
const expectEach = async (
  own: World,
  expected: { soft: RegExp | 'told'; hard: RegExp | 'told'; off?: 'told' },
  options: Partial<ConstructorParameters<typeof ServerRevocation>[0]> = {},
): Promise<void> => {
  for (const role of ROLES) {
    for (const [mode, wanted] of Object.entries(expected) as [RevocationMode, RegExp | 'told'][]) {
      // Nothing kept: each begins as after an installation.
      const { down, wasTold } = await own.login(
        role,
        own.revocation(mode, { stateDir: undefined, ...options }),
      );
      assert.equal(wasTold, wanted === 'told', `${role} ${mode}: ${down.code} ${down.detail}`);
      if (wanted === 'told') assert.equal(down.status, 401);
      else assert.match(`${down.code}: ${down.detail}`, wanted);
    }
  }
};

test('a relay whose certificate is on no list is logged in at, and the lists are kept', {
  skip,
}, async (t) => {
  const own = await world(t);
  await expectEach(own, { soft: 'told', hard: 'told', off: 'told' });
  assert.deepEqual(new Set(own.asked), new Set(['/root.crl', '/intermediate.crl']));
  const revocation = own.revocation('hard');
  await own.login('agent', revocation);
  assert.deepEqual(
    revocation.standings.map(({ state }) => state),
    ['good', 'good'],
  );
  assert.equal(readdirSync(join(own.stateDir, 'crl')).length, 2);
  await own.stopLists();
  const again = own.revocation('hard');
  assert.equal((await own.login('gateway', again)).wasTold, true, 'after a restart, without the server');
});

test('a revoked relay is told nothing, not even in soft mode, and the message says by whom, when and why', {
  skip,
}, async (t) => {
  const own = await world(t);
  own.authority.revoke('server');
  const revoked = new RegExp(
    `^ERR_CERTIFICATE_REVOKED: certificate ${own.authority.serial} of "CN=server" was revoked by "CN=intermediate" at \\d{4}-.*Z \\(key compromise\\)`,
  );
  await expectEach(own, { soft: revoked, hard: revoked, off: 'told' });
});

test('a relay under a revoked intermediate authority is refused', { skip }, async (t) => {
  const own = await world(t);
  own.authority.revoke('intermediate');
  const revoked = /^ERR_CERTIFICATE_REVOKED: .*"CN=intermediate" was revoked by "CN=root"/;
  await expectEach(own, { soft: revoked, hard: revoked });
});

const UNKNOWN = 'ERR_CERTIFICATE_REVOCATION_UNKNOWN: .*';

test('a list that proves nothing is a warning in soft mode and a refusal in hard mode', {
  skip,
}, async (t) => {
  const own = await world(t);
  const expectUnknown = (why: string): Promise<void> =>
    expectEach(own, { soft: 'told', hard: new RegExp(`^${UNKNOWN}${why}.*tls\\.revocation is hard`) });

  await t.test('stale', async () => {
    own.lists.intermediate = gives(() => own.authority.crl('intermediate', 'stale'));
    await expectUnknown('held until 2020-01-02T00:00:00.000Z and no newer one is there');
  });
  await t.test('of another authority of the same name, so that the signature is wrong', async () => {
    own.lists.intermediate = gives(() => own.other.crl('intermediate'));
    await expectUnknown('its signature is not by the issuer');
  });
  await t.test('of another issuer', async () => {
    own.lists.intermediate = gives(() => own.authority.crl('root'));
    await expectUnknown('its signature is not by the issuer');
  });
  await t.test('changed on the way', async () => {
    own.authority.revoke('server');
    own.lists.intermediate = gives(() => {
      const bytes = own.authority.crl('intermediate');
      // The serial number of the entry.
      const at = bytes.indexOf(Buffer.from(own.authority.serial, 'hex'));
      bytes[at + 5] = 0xff;
      return bytes;
    });
    await expectUnknown('its signature is not by the issuer');
  });
  await t.test('cut off', async () => {
    own.lists.intermediate = gives(() => own.authority.crl('intermediate').subarray(0, -3));
    await expectUnknown('it cannot be read: an element that is longer than what holds it');
  });
  await t.test('not there', async () => {
    own.lists.intermediate = (_request, response) => response.writeHead(404).end();
    await expectUnknown('the server answered 404');
  });
  await t.test('moved to another scheme', async () => {
    own.lists.intermediate = (_request, response) =>
      response.writeHead(302, { location: 'https://127.0.0.1/intermediate.crl' }).end();
    await expectUnknown('it redirects to https:, which is not followed');
  });
  await t.test('too large', async () => {
    own.lists.intermediate = (_request, response) => {
      response.on('error', () => undefined);
      response.end(Buffer.alloc(MAX_CRL_BYTES + 1));
    };
    await expectUnknown(`it has more than ${String(MAX_CRL_BYTES)} bytes`);
  });
  await t.test('out of reach', async () => {
    await own.stopLists();
    await expectUnknown('cannot connect to 127.0.0.1');
  });
});

test('certificates that name no list are refused in hard mode only', { skip }, async (t) => {
  const own = await world(t, false);
  await expectEach(own, { soft: 'told', hard: /names no CRL over http, and tls\.revocation is hard/ });
  assert.deepEqual(own.asked, []);
});

test('a list that has moved is followed, and one in PEM is read', { skip }, async (t) => {
  const own = await world(t);
  own.authority.revoke('server');
  const moved = gives(() => {
    own.authority.crl('intermediate');
    return readFileSync(join(own.authority.directory, 'crl.pem'));
  });
  own.lists.intermediate = (request, response) => {
    if (request.url === '/intermediate.crl')
      response.writeHead(301, { location: '/intermediate/moved.pem' }).end();
    else moved(request, response);
  };
  await expectEach(own, { soft: /^ERR_CERTIFICATE_REVOKED/, hard: /^ERR_CERTIFICATE_REVOKED/ });
});

test('a list is fetched through the proxy of the environment, with its credentials', { skip }, async (t) => {
  const own = await world(t);
  const asked: string[] = [];
  const proxy = createHttpServer((request, response) => {
    asked.push(`${request.url ?? ''} ${request.headers['proxy-authorization'] ?? ''}`);
    const { host, pathname } = new URL(request.url ?? '');
    const far = connect(own.crlPort, '127.0.0.1', () =>
      far.write(`GET ${pathname} HTTP/1.0\r\nhost: ${host}\r\n\r\n`),
    );
    far.pipe(response.socket ?? far);
  });
  const port = await listening(t, proxy);
  const proxyEnvironment = { http_proxy: `http://me:secret@127.0.0.1:${String(port)}` };
  const revocation = own.revocation('hard', { proxyEnvironment });
  assert.equal((await own.login('agent', revocation)).wasTold, true);
  const basic = `Basic ${Buffer.from('me:secret').toString('base64')}`;
  assert.ok(
    asked.includes(`http://127.0.0.1:${String(own.crlPort)}/intermediate.crl ${basic}`),
    asked.join(),
  );
});

test('a stored list is asked for again when it is an hour old, and an older one does not take its place', {
  skip,
}, async (t) => {
  const own = await world(t);
  const before = own.authority.crl('intermediate', 'early');
  const firstRoot = own.authority.crl('root');
  own.lists.intermediate = gives(() => before);
  own.lists.root = gives(() => firstRoot);
  assert.equal((await own.login('agent', own.revocation('soft'))).wasTold, true);
  own.authority.revoke('server');
  const after = own.authority.crl('intermediate');
  own.lists.intermediate = gives(() => after);
  assert.equal((await own.login('agent', own.revocation('soft'))).wasTold, true, 'the stored list is young');
  const age = (): void => {
    const then = (Date.now() - 61 * 60_000) / 1_000;
    for (const file of readdirSync(join(own.stateDir, 'crl')))
      utimesSync(join(own.stateDir, 'crl', file), then, then);
  };
  age();
  assert.equal((await own.login('agent', own.revocation('soft'))).down.code, 'ERR_CERTIFICATE_REVOKED');
  own.lists.intermediate = gives(() => before);
  age();
  assert.equal(
    (await own.login('agent', own.revocation('soft'))).down.code,
    'ERR_CERTIFICATE_REVOKED',
    'replayed',
  );
  await own.stopLists();
  age();
  assert.equal(
    (await own.login('gateway', own.revocation('soft'))).down.code,
    'ERR_CERTIFICATE_REVOKED',
    'cut off',
  );
});

test('an unreachable list is not asked for at every login', { skip }, async (t) => {
  const own = await world(t);
  own.lists.intermediate = (_request, response) => response.writeHead(503).end();
  const revocation = own.revocation('soft');
  await own.login('agent', revocation);
  const { length } = own.asked;
  await own.login('agent', revocation);
  assert.equal(own.asked.length, length);
  assert.equal(
    revocation.standings.some(({ state }) => state === 'unknown'),
    true,
  );
});

test('a list of other certificates, other places or unknown rules says nothing', { skip }, async (t) => {
  const url = 'http://127.0.0.1:1/list.crl';
  const authority = revokingAuthority(t, { root: 'http://127.0.0.1:1/root.crl', intermediate: url });
  const certificate = new X509Certificate(readFileSync(join(authority.directory, 'server.pem')));
  const issuer = new X509Certificate(readFileSync(join(authority.directory, 'intermediate.pem')));
  const fields = certificateFields(certificate);
  assert.deepEqual(fields.crlUrls, [url], 'not that of ldap');
  const asked = { certificate, fields, issuer, url, nowMs: Date.now() };
  const scope = (lines: string): string => `issuingDistributionPoint = critical,@scope\n[scope]\n${lines}`;
  const list = (extensions: string): Buffer => authority.crl('intermediate', undefined, { extensions });
  const whole = list(scope(`fullname = URI:${url}\nonlyuser = TRUE`));
  assert.equal(readCrl(whole, asked).revoked, undefined);
  authority.revoke('server');
  assert.equal(readCrl(list(scope(`fullname = URI:${url}`)), asked).revoked?.reason, 'key compromise');
  for (const [extensions, why] of [
    [
      scope('fullname = URI:http://127.0.0.1:1/other.crl'),
      /it is the list of http:\/\/127\.0\.0\.1:1\/other\.crl/,
    ],
    [scope('onlyCA = TRUE'), /a list of other certificates/],
    [scope('onlysomereasons = keyCompromise'), /of some reasons only/],
    [scope('indirectCRL = TRUE'), /a list of other certificates/],
    ['2.5.29.27 = critical,DER:020101', /a critical extension 2\.5\.29\.27/],
  ] as const) {
    assert.throws(() => readCrl(list(extensions), asked), why, extensions);
  }
  const other = authority.crl('intermediate', undefined, { as: 'another authority' });
  assert.throws(() => readCrl(other, asked), /it is the list of another issuer/);
  const weak = authority.crl('intermediate', undefined, { digest: 'sha1' });
  assert.throws(() => readCrl(weak, asked), /signed by algorithm 1\.2\.840\.10045\.4\.1, which is not taken/);
  assert.throws(() => readCrl(whole, { ...asked, nowMs: Date.now() - 3_600_000 }), /which is to come/);
  assert.throws(() => readCrl(Buffer.concat([whole, whole]), asked), /something follows it/);
  for (let length = 0; length < whole.length; length += 1) {
    assert.throws(
      () => readCrl(whole.subarray(0, length), asked),
      UnusableCrl,
      `the first ${String(length)} bytes`,
    );
  }
});

test('a certificate that is revoked under a standing link ends it', { skip }, async (t) => {
  const own = await world(t);
  const clock = new ManualClock(Date.now());
  const secure = connectTls({
    host: '127.0.0.1',
    port: own.relayPort,
    ca: readFileSync(own.authority.caFile),
  });
  t.after(() => secure.destroy());
  await checkedHandshake(secure, own.revocation('soft', { clock }), clock);
  own.authority.revoke('server');
  const failed = once(secure, 'error') as Promise<[Error]>;
  // The kept list is an hour old at the next check.
  clock.advance(70 * 60 * 1000);
  const [error] = await failed;
  assert.match(error.message, /was revoked by "CN=intermediate"/);
});
